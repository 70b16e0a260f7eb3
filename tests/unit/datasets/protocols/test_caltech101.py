"""Caltech-101: who trains, who is tested, and what a damaged copy is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.datasets.protocols.caltech101 import BACKGROUND, CLASSES
from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import keys, pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = "101_ObjectCategories"
SMALL = {BACKGROUND: 35, "Faces": 33, "accordion": 40, "airplanes": 90}


def copy(root: Path, counts: dict[str, int], inside: str = f"{INSIDE}/") -> Path:
    return pictures(
        root,
        (
            f"{inside}{name}/image_{i:04d}.jpg"
            for name, n in counts.items()
            for i in range(1, n + 1)
        ),
    )


def drawn(counts: dict[str, int], seed: int) -> dict[str, list[str]]:
    """The published rule, written down independently: each class's images in drawn order."""
    generator = np.random.RandomState(seed)
    return {
        name: [f"{name}/image_{i + 1:04d}.jpg" for i in generator.permutation(counts[name])]
        for name in sorted(counts)
    }


def test_there_are_101_classes_in_sorted_order() -> None:
    assert len(set(CLASSES)) == 101
    assert list(CLASSES) == sorted(CLASSES)


def test_decaf_trains_25_chooses_on_5_and_tests_all_the_rest_background_included(
    tmp_path: Path,
) -> None:
    write(tmp_path, {f"{INSIDE}/{BACKGROUND}/tmp": b"x", f"{INSIDE}/.DS_Store": b"x"})
    data = protocol("caltech101-decaf").read(copy(tmp_path, SMALL))
    assert data.classes == (BACKGROUND, "Faces", "accordion", "airplanes")
    assert data.metrics[0] == "mean_class_accuracy"
    assert len(data.items) == 198
    assert [split.name for split in data.splits] == ["1", "2", "3", "4", "5"]
    for seed, split in enumerate(data.splits):
        rule = drawn(SMALL, seed)
        train, val, test = sides(data, split)
        assert set(train) == {path for paths in rule.values() for path in paths[:25]}
        assert set(val) == {path for paths in rule.values() for path in paths[25:30]}
        assert set(test) == {path for paths in rule.values() for path in paths[30:]}
        assert sorted(train + val) == keys(data, split.fitting)
    label = {item.path: item.labels for item in data.items}
    assert label["Faces/image_0001.jpg"] == (1,)


@pytest.mark.parametrize(
    ("name", "train", "tested", "splits"),
    [("caltech101-zf15", 15, 50, 5), ("caltech101-zf30", 30, 50, 5), ("caltech101-vgg", 24, 50, 3)],
)
def test_others_test_at_most_50_of_a_class(
    name: str, train: int, tested: int, splits: int, tmp_path: Path
) -> None:
    data = protocol(name).read(copy(tmp_path, SMALL))
    assert len(data.splits) == splits
    for split in data.splits:
        labels = data.targets()
        assert np.bincount(labels[list(split.train)]).tolist() == [train] * 4
        fitted = len(split.fitting) // 4
        expected = [min(tested, SMALL[name] - fitted) for name in data.classes]
        assert np.bincount(labels[list(split.test)]).tolist() == expected


def test_without_the_background_its_folder_does_not_matter(tmp_path: Path) -> None:
    data = protocol("caltech101-15").read(copy(tmp_path, SMALL))
    assert data.classes == ("Faces", "accordion", "airplanes")
    plain = {name: n for name, n in SMALL.items() if name != BACKGROUND}
    other = protocol("caltech101-15").read(copy(tmp_path / "other", plain))
    assert other == data


@pytest.mark.parametrize("inside", ["", f"{INSIDE}/", f"caltech-101/{INSIDE}/"])
def test_the_folder_may_be_named_or_the_one_around_it(inside: str, tmp_path: Path) -> None:
    data = protocol("caltech101-30").read(copy(tmp_path, {"ant": 31}, inside))
    assert data.items[0].path == "ant/image_0001.jpg"


def test_a_copy_without_background_or_with_too_few_images_is_refused(tmp_path: Path) -> None:
    copy(tmp_path, {"ant": 40, "bass": 30})
    with pytest.raises(InvalidParameter, match=f"missing folders: {BACKGROUND} "):
        protocol("caltech101-decaf").read(tmp_path)
    with pytest.raises(InvalidParameter, match=r"bass: 30 images, more than 30 are needed"):
        protocol("caltech101-30").read(tmp_path)
    with pytest.raises(InvalidParameter, match="is not a folder; caltech101-30 reads one"):
        protocol("caltech101-30").read(tmp_path / "nowhere")


def full(root: Path) -> Path:
    """All 9,144 images: links to one file."""
    (root / "one.bin").write_bytes(b"x")
    sizes = dict.fromkeys((*CLASSES, BACKGROUND), 31)
    sizes["airplanes"] = 800
    sizes[BACKGROUND] += 9144 - sum(sizes.values())
    for name, count in sizes.items():
        (root / INSIDE / name).mkdir(parents=True)
        for i in range(1, count + 1):
            os.link(root / "one.bin", root / INSIDE / name / f"image_{i:04d}.jpg")
    return root


def test_a_copy_of_official_size_is_right_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    root = full(tmp_path)
    found = verify(protocol("caltech101-decaf"), root)
    assert (found.right, found.faults) == (True, {})
    assert {count.what: count.found for count in found.counts}["test"] == (6084,)
    assert verify(protocol("caltech101-15"), root).right

    base = root / INSIDE
    for number in (3, 7, 8):
        (base / "airplanes" / f"image_{number:04d}.jpg").unlink()
    (base / "wrench").rename(base / "hammer")
    empty = base / "ant" / "image_0002.jpg"
    empty.unlink()
    empty.touch()
    found = verify(protocol("caltech101-decaf"), root)
    assert not found.right
    assert found.faults == {
        Fault.MISSING_IMAGES: tuple(f"airplanes/image_000{n}.jpg" for n in (3, 7, 8)),
        Fault.MISSING_FOLDERS: ("wrench",),
        Fault.EXTRA_FOLDERS: ("hammer",),
        Fault.EMPTY_IMAGES: ("ant/image_0002.jpg",),
        Fault.COUNTS: (
            "9141 image files (official: 9144)",
            "9141 items (official: 9144)",
            "6081 test (official: 6084)",
        ),
    }
    assert found.sentences(2)[0] == (
        "missing images: airplanes/image_0003.jpg, airplanes/image_0007.jpg and 1 more"
    )


def test_the_real_40_classes_are_split_as_their_reference_figures_were(shared_data: Path) -> None:
    root = shared_data / "data" / "caltech101-40"
    data = protocol("caltech101-15").read(root)
    assert (len(data.classes), len(data.items), len(data.splits)) == (40, 2094, 3)
    for seed, split in enumerate(data.splits):
        generator = np.random.RandomState(seed)
        train = []
        for folder in sorted(path.name for path in root.iterdir()):
            files = sorted(file.name for file in (root / folder).iterdir())
            order = generator.permutation(len(files))
            train += [f"{folder}/{files[i]}" for i in order[:15]]
        assert keys(data, split.train) == sorted(train)
        assert len(split.test) == 2094 - 600
    found = verify(protocol("caltech101-15"), root)
    assert not found.right
    assert len(found.faults[Fault.MISSING_FOLDERS]) == 61

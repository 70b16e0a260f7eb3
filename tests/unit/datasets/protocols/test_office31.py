"""Office-31: three domains, and what of them trains in each setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.core.splits import shuffled
from offshelf.datasets.protocols.office31 import CLASSES, IMAGES
from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import keys, pictures, protocol

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"amazon": 22, "dslr": 9, "webcam": 5}


def images(domain: str, cls: str, count: int) -> list[str]:
    return [f"{domain}/images/{cls}/frame_{i:04d}.jpg" for i in range(1, count + 1)]


def copy(root: Path, few: dict[tuple[str, str], int] | None = None) -> Path:
    """Every class has its domain's size, but for a few."""
    for domain, size in SIZES.items():
        for cls in CLASSES:
            pictures(root, images(domain, cls, (few or {}).get((domain, cls), size)))
    return root


def drawn(domain: str, seed: int, first: int) -> set[str]:
    """The first images of each class of a domain, as its own generator draws them."""
    groups = [images(domain, cls, SIZES[domain]) for cls in CLASSES]
    order = shuffled([range(SIZES[domain])] * len(CLASSES), seed)
    return {group[i] for group, o in zip(groups, order, strict=True) for i in o[:first]}


def test_there_are_31_classes_in_sorted_order() -> None:
    assert len(set(CLASSES)) == 31
    assert list(CLASSES) == sorted(CLASSES)


@pytest.mark.parametrize(
    ("name", "source", "labels"),
    [("office31-amazon-webcam", "amazon", 20), ("office31-dslr-webcam", "dslr", 8)],
)
def test_source_target_and_both_share_draw_and_test(
    name: str, source: str, labels: int, tmp_path: Path
) -> None:
    root = copy(tmp_path)
    alone = protocol(name).read(root)
    both = protocol(f"{name}-both").read(root)
    target = protocol("office31-webcam").read(root)
    everything = {path for cls in CLASSES for path in images("webcam", cls, SIZES["webcam"])}
    for seed in range(5):
        few, many = drawn("webcam", seed, 3), drawn(source, seed, labels)
        trains = [set(keys(d, d.splits[seed].train)) for d in (alone, both, target)]
        assert trains == [many, many | few, few]
        for data in (alone, both, target):
            assert set(keys(data, data.splits[seed].test)) == everything - few
            assert data.splits[seed].val == ()
    assert {item.path.split("/")[0] for item in target.items} == {"webcam"}
    assert len(alone.classes) == 31


def test_a_class_that_has_fewer_gives_all(tmp_path: Path) -> None:
    data = protocol("office31-dslr-webcam").read(copy(tmp_path, {("dslr", "ruler"): 7}))
    for split in data.splits:
        counts = np.bincount(data.targets()[list(split.train)], minlength=31)
        assert sorted(counts.tolist()) == [7] + [8] * 30


def test_copies_without_the_folder_called_images_are_read(tmp_path: Path) -> None:
    for domain in SIZES:
        for cls in CLASSES:
            pictures(tmp_path, [p.replace("/images", "") for p in images(domain, cls, 9)])
    data = protocol("office31-webcam").read(tmp_path)
    assert data.items[0].path == "webcam/back_pack/frame_0001.jpg"


def official(root: Path) -> Path:
    """Copies of official size: what is left over after equal shares is in the last class."""
    for domain, count in IMAGES.items():
        share = count // 31
        for cls in CLASSES[:-1]:
            pictures(root, images(domain, cls, share))
        pictures(root, images(domain, CLASSES[-1], count - 30 * share))
    return root


def test_a_copy_of_official_size_is_right_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    root = official(tmp_path)
    names = [
        "office31-amazon-webcam", "office31-dslr-webcam-both", "office31-webcam",
    ]  # fmt: skip
    for name in names:
        assert verify(protocol(name), root).faults == {}
    (root / "amazon/images/pen").rename(root / "amazon/images/pens")
    (root / "webcam/images/mug/frame_0001.jpg").unlink()
    found = verify(protocol("office31-amazon-webcam"), root)
    assert found.faults == {
        Fault.MISSING_FOLDERS: ("amazon/images/pen",),
        Fault.EXTRA_FOLDERS: ("amazon/images/pens",),
        Fault.COUNTS: (
            "701 test (official: 702)",
            "794 images of webcam (official: 795)",
        ),
    }
    with pytest.raises(InvalidParameter, match="missing folders: amazon/images/pen"):
        protocol("office31-amazon-webcam").read(root)


def test_a_missing_domain_matters_to_those_that_use_it(tmp_path: Path) -> None:
    root = copy(tmp_path)
    (root / "dslr").rename(root / "camera")
    assert protocol("office31-amazon-webcam").read(root).splits
    with pytest.raises(InvalidParameter, match="missing folders: dslr"):
        protocol("office31-dslr-webcam").read(root)
    found = verify(protocol("office31-amazon-webcam"), root)
    assert found.faults[Fault.MISSING_FOLDERS] == ("dslr",)

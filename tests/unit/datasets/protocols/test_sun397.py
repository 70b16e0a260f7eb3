"""SUN397: official partitions, class names with slashes, and lists that lie beside or below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf.core.splits import shuffled
from offshelf.datasets.protocols import sun397
from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import keys, pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ["/a/abbey", "/a/apse/indoor", "/z/zoo"]


def images(cls: str, partition: int, side: str, count: int) -> list[str]:
    return [f"{cls}/sun_{side}{partition}_{i:02d}.jpg" for i in range(count)]


def copy(root: Path, where: str = "", partitions: int = 10, per_class: int = 50) -> Path:
    """Lists as the official ones: every line begins with a slash."""
    files: dict[str, str] = {f"{where}ClassName.txt": "\n".join(CLASSES) + "\n"}
    for number in range(1, partitions + 1):
        for side in ("Training", "Testing"):
            lines = [path for cls in CLASSES for path in images(cls, number, side, per_class)]
            files[f"{where}{side}_{number:02d}.txt"] = "\n".join(lines) + "\n"
            pictures(root, (line.removeprefix("/") for line in lines))
    return write(root, files)


@pytest.mark.parametrize("where", ["", "Partitions/"])
def test_ten_partitions_as_they_are_listed(where: str, tmp_path: Path) -> None:
    data = protocol("sun397").read(copy(tmp_path, where, per_class=2))
    assert data.classes == ("abbey", "apse/indoor", "zoo")
    assert len(data.splits) == 10
    for number, split in enumerate(data.splits, 1):
        train, val, test = sides(data, split)
        listed = {
            side: sorted(p[1:] for c in CLASSES for p in images(c, number, side, 2))
            for side in ("Training", "Testing")
        }
        assert (train, val, test) == (listed["Training"], [], listed["Testing"])
    labels = {item.path: item.labels[0] for item in data.items}
    assert labels["a/apse/indoor/sun_Training3_01.jpg"] == 1


@pytest.mark.parametrize(
    ("name", "splits", "val"), [("sun397-decaf", 5, 8), ("sun397-probe", 1, 10)]
)
def test_some_of_the_official_training_images_choose(
    name: str, splits: int, val: int, tmp_path: Path
) -> None:
    root = copy(tmp_path / "SUN397", partitions=splits).parent
    data = protocol(name).read(root)
    assert len(data.splits) == splits
    for number, split in enumerate(data.splits, 1):
        groups = [sorted(images(c, number, "Training", 50)) for c in CLASSES]
        order = shuffled([range(50)] * 3, number - 1)
        chosen = {
            group[i][1:] for group, o in zip(groups, order, strict=True) for i in o[50 - val :]
        }
        train, found, test = sides(data, split)
        assert set(found) == chosen
        assert sorted(train + found) == sorted(path[1:] for group in groups for path in group)
        assert len(test) == 150
        assert keys(data, split.fitting) == sorted(train + found)


def test_a_right_copy_and_what_a_damaged_one_is_told(tmp_path: Path) -> None:
    copy(tmp_path, partitions=1)
    pictures(tmp_path, ["a/abbey/sun_in_no_partition.jpg"])
    small = protocol("sun397-probe", classes=3, image_files=301, train=120, val=30, test=150)
    assert verify(small, tmp_path).right

    lines = (tmp_path / "Testing_01.txt").read_text().splitlines()
    write(
        tmp_path, {"Testing_01.txt": "\n".join([*lines[1:-1], "/b/bar/sun_x.jpg", "z/zoo/x.jpg"])}
    )
    (tmp_path / lines[60][1:]).unlink()
    found = verify(small, tmp_path)
    assert found.faults == {
        Fault.MISSING_IMAGES: (lines[60][1:],),
        Fault.BROKEN_LISTS: (
            "Testing_01.txt:149: '/b/bar/sun_x.jpg' is of no class of ClassName.txt",
            "Testing_01.txt:150: 'z/zoo/x.jpg' is of no class of ClassName.txt",
        ),
        Fault.COUNTS: (
            "Testing_01: 49 of abbey (official: 50)",
            "Testing_01: 49 of zoo (official: 50)",
            "300 image files (official: 301)",
            "148 test (official: 150)",
        ),
    }
    (tmp_path / "Training_01.txt").unlink()
    assert verify(small, tmp_path).faults[Fault.MISSING_LISTS] == ("Training_01.txt",)
    with pytest.raises(InvalidParameter, match=r"missing files: Training_01\.txt"):
        small.read(tmp_path)


def test_a_class_name_of_another_form_is_refused(tmp_path: Path) -> None:
    copy(tmp_path, partitions=1, per_class=1)
    write(tmp_path, {"ClassName.txt": "abbey\n"})
    with pytest.raises(InvalidParameter, match=r"ClassName.txt:1: 'abbey'; a class is written"):
        protocol("sun397-probe").read(tmp_path)


def test_missing_class_names_are_one_fault_and_no_flood(tmp_path: Path) -> None:
    copy(tmp_path, partitions=1, per_class=1)
    (tmp_path / "ClassName.txt").unlink()
    assert verify(protocol("sun397-probe"), tmp_path).sentences() == [
        "missing files: ClassName.txt",
        "lists that cannot be read as they are: sun397-probe: ClassName.txt names no class",
    ]


def test_official_numbers() -> None:
    assert 397 * sun397.PER_CLASS == 19_850
    assert protocol("sun397").card.counts["train"] == 19_850

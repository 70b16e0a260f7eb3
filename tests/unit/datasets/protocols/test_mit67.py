"""MIT-67: the official lists as they are, last newline or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = ["airport_inside/a 1.jpg", "bakery/b.jpg", "bakery/c.jpg"]
TEST = ["airport_inside/d.jpg", "bakery/e.jpg"]


def copy(root: Path, train: list[str], test: list[str]) -> Path:
    """As the official one: the lists' last lines have no newline."""
    pictures(root, (f"Images/{path}" for path in (*train, *test)))
    return write(root, {"TrainImages.txt": "\n".join(train), "TestImages.txt": "\n".join(test)})


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_the_last_line_counts_with_a_newline_or_without(end: str, tmp_path: Path) -> None:
    copy(tmp_path, TRAIN, TEST)
    for name in ("TrainImages.txt", "TestImages.txt"):
        text = (tmp_path / name).read_text()
        line_end = "\r\n" if end == "\r\n" else "\n"
        (tmp_path / name).write_bytes((text.replace("\n", line_end) + end).encode())
    data = protocol("mit67").read(tmp_path)
    assert data.classes == ("airport_inside", "bakery")
    train, val, test = sides(data, data.splits[0])
    assert train == [f"Images/{path}" for path in TRAIN]
    assert (val, test) == ([], [f"Images/{path}" for path in TEST])
    assert data.targets().tolist() == [0, 0, 1, 1, 1]


def official(root: Path) -> tuple[list[str], list[str]]:
    """5,360 and 1,340 images: 77 to 83 and 17 to 23 of each of 67 scenes."""
    train_sizes = [77, 83, *[80] * 65]
    test_sizes = [23, 17, *[20] * 65]
    lists = []
    for side, sizes in (("train", train_sizes), ("test", test_sizes)):
        lists.append(
            [f"scene{s:02d}/{side}_{i:03d}.jpg" for s, n in enumerate(sizes) for i in range(n)]
        )
    copy(root, *lists)
    return lists[0], lists[1]


def test_a_copy_of_official_size_is_right_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    train, test = official(tmp_path)
    pictures(tmp_path, ["Images/scene00/unlisted.jpg"])  # there are thousands, and rightly
    found = verify(protocol("mit67"), tmp_path)
    assert (found.right, found.faults) == (True, {})
    counts = np.bincount(protocol("mit67").read(tmp_path).targets())
    assert counts.tolist() == [100] * 67

    for path in train[:7]:
        (tmp_path / "Images" / path).unlink()
    write(tmp_path, {"TestImages.txt": "\n".join([*test[:-1], "no scene"])})
    found = verify(protocol("mit67"), tmp_path)
    assert found.sentences() == [
        (
            "missing images: Images/scene00/train_000.jpg, Images/scene00/train_001.jpg, "
            "Images/scene00/train_002.jpg, Images/scene00/train_003.jpg, "
            "Images/scene00/train_004.jpg and 2 more"
        ),
        (
            "lists that cannot be read as they are: TestImages.txt:1340: 'no scene'; "
            "a line is <scene>/<image>.jpg"
        ),
        "wrong counts: 1339 test (official: 1340), 6699 items (official: 6700)",
    ]


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    copy(tmp_path, TRAIN, TEST)
    (tmp_path / "Images" / TEST[0]).unlink()
    with pytest.raises(InvalidParameter, match=r"missing images: Images/airport_inside/d\.jpg"):
        protocol("mit67").read(tmp_path)
    write(tmp_path, {"TestImages.txt": "\n".join(TRAIN[:1])})
    with pytest.raises(InvalidParameter, match=r"a 1\.jpg' is in it twice"):
        protocol("mit67").read(tmp_path)
    (tmp_path / "TestImages.txt").unlink()
    with pytest.raises(InvalidParameter, match=r"missing files: TestImages\.txt"):
        protocol("mit67").read(tmp_path)
    found = verify(protocol("mit67"), tmp_path)
    assert found.faults[Fault.MISSING_LISTS] == ("TestImages.txt",)


def test_a_list_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    pictures(tmp_path, ["secret.jpg"])
    root = copy(tmp_path / "data", TRAIN, TEST)
    write(root, {"TestImages.txt": "../../secret.jpg"})
    with pytest.raises(InvalidParameter, match="lists that cannot be read"):
        protocol("mit67").read(root)
    write(root, {"TestImages.txt": "../secret.jpg"})  # below Images: not outside, yet not there
    with pytest.raises(InvalidParameter, match="missing images"):
        protocol("mit67").read(root)

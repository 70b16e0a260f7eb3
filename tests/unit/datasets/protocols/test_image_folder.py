"""Image folders of one's own: with sides, or without."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path


def test_without_sides_everything_trains(tmp_path: Path) -> None:
    pictures(tmp_path, ["dog/1.jpg", "cat/2.PNG", "cat/1.jpg", ".git/x/1.jpg"])
    write(tmp_path, {"cat/notes.txt": "x", "README": "x"})
    data = protocol("image-folder").read(tmp_path)
    assert data.classes == ("cat", "dog")
    assert sides(data, data.splits[0]) == (["cat/1.jpg", "cat/2.PNG", "dog/1.jpg"], [], [])
    assert data.targets().tolist() == [0, 0, 1]
    assert verify(protocol("image-folder"), tmp_path).right


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing")])
def test_folders_called_as_sides_are_the_split(names: tuple[str, ...], tmp_path: Path) -> None:
    train, val, test = names
    pictures(tmp_path, [f"{train}/cat/1.jpg", f"{train}/dog/1.jpg", f"{val}/cat/2.jpg"])
    data = protocol("image-folder").read(tmp_path)
    assert sides(data, data.splits[0])[1:] == ([], [f"{val}/cat/2.jpg"])  # no test: val is tested
    pictures(tmp_path, [f"{test}/dog/3.jpg"])
    data = protocol("image-folder").read(tmp_path)
    assert sides(data, data.splits[0])[1:] == ([f"{val}/cat/2.jpg"], [f"{test}/dog/3.jpg"])


def test_a_class_without_images_and_images_without_a_class_are_told(tmp_path: Path) -> None:
    pictures(tmp_path, ["cat/1.jpg", "2.jpg", "cat/young/3.jpg"])
    (tmp_path / "dog").mkdir()
    with pytest.raises(InvalidParameter, match="missing images: any of class dog"):
        protocol("image-folder").read(tmp_path)
    found = verify(protocol("image-folder"), tmp_path)
    assert found.faults == {
        Fault.MISSING_IMAGES: ("any of class dog",),
        Fault.EXTRA_IMAGES: (
            "2.jpg (not in a class's folder)", "cat/young/3.jpg (not in a class's folder)",
        ),
    }  # fmt: skip


def test_a_name_that_is_not_utf_8_is_told_in_letters_that_are(tmp_path: Path) -> None:
    pictures(tmp_path, ["cat/1.jpg"])
    try:
        (tmp_path / "cat" / os.fsdecode(b"caf\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(InvalidParameter, match=r"or not UTF-8: cat/caf\\udce9"):
        protocol("image-folder").read(tmp_path)
    found = verify(protocol("image-folder"), tmp_path)
    assert found.model_dump_json()
    assert found.faults == {Fault.NAMES: ("cat/caf\\udce9.jpg",)}


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    pictures(tmp_path, ["cat/1.jpg"])
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    data = protocol("image-folder").read(tmp_path)
    assert [item.path for item in data.items] == ["cat/1.jpg"]

"""Images are read as they were when their dataset was made, or there is an error that says so."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from offshelf.datasets.reading import ImageReader
from offshelf.datasets.sources import SETTING, Sources
from offshelf.errors import DependencyError, InvalidImage
from offshelf.schemas.datasets import DatasetItem
from offshelf.store import layout
from offshelf.store.objects import ObjectStore

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = b"an image"
SHA256 = hashlib.sha256(IMAGE).hexdigest()


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore.open("memory://")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    file = tmp_path / "root" / "1.jpg"
    file.write_bytes(IMAGE)
    return file


def item(source: str = "") -> DatasetItem:
    return DatasetItem("cat/1.jpg", "cat", SHA256, len(IMAGE), source=source)


def test_what_was_uploaded_is_in_the_store(store: ObjectStore) -> None:
    store.put_new(layout.blob(SHA256), IMAGE)
    assert ImageReader(store, Sources()).read(item()) == IMAGE


def test_an_image_that_the_store_has_lost_is_no_fault_of_the_image(store: ObjectStore) -> None:
    with pytest.raises(DependencyError, match=r"the store has lost the image 'cat/1\.jpg'"):
        ImageReader(store, Sources()).read(item())


def test_what_was_registered_is_where_it_was(store: ObjectStore, file: Path) -> None:
    reader = ImageReader(store, Sources([str(file.parent)]))
    assert reader.read(item(str(file))) == IMAGE
    assert list(store.keys("")) == []


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (b"an Image", "its bytes are others"),
        (b"short", "its bytes are others"),
        (IMAGE + b"!", "it has more than 8 bytes"),
        (None, "the file is gone"),
    ],
)
def test_an_image_that_has_changed_is_an_error_of_its_own(
    now: bytes | None, why: str, store: ObjectStore, file: Path
) -> None:
    file.write_bytes(now) if now is not None else file.unlink()
    reader = ImageReader(store, Sources([str(file.parent)]))
    with pytest.raises(InvalidImage, match=f"changed since it was registered: {why}"):
        reader.read(item(str(file)))
    store.put_new(layout.blob(SHA256), IMAGE)  # somebody uploads it
    assert reader.read(item(str(file))) == IMAGE


def test_who_may_not_look_says_so_and_blames_no_image(store: ObjectStore, file: Path) -> None:
    with pytest.raises(DependencyError, match="may not read") as caught:
        ImageReader(store, Sources()).read(item(str(file)))
    assert SETTING in caught.value.public_message
    assert str(file) not in caught.value.public_message


def test_a_root_that_is_away_blames_no_image(store: ObjectStore, file: Path) -> None:
    reader = ImageReader(store, Sources([str(file.parent)]))
    file.unlink()
    file.parent.rmdir()
    with pytest.raises(DependencyError, match="is not there"):
        reader.read(item(str(file)))

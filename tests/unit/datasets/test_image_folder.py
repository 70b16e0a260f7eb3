"""An image folder becomes a dataset: its classes, its id, and what it leaves out."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import tarfile
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest

from offshelf.datasets import image_folder, records
from offshelf.datasets.image_folder import import_archive
from offshelf.datasets.interface import ArchiveLimits
from offshelf.errors import DependencyError, InvalidParameter, UnknownName
from offshelf.store import layout
from offshelf.store.objects import ObjectStore

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.schemas.datasets import Dataset

LIMITS = ArchiveLimits(max_bytes=1 << 20, max_files=5000, max_image_bytes=100)


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore.open("memory://")


def zipped(files: dict[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out


def imported(store: ObjectStore, files: dict[str, bytes], name: str = "n") -> Dataset:
    dataset, _ = import_archive(
        store, zipped(files), owner="default", name=name, limits=LIMITS, now_s=5.0
    )
    return dataset


def test_folders_are_classes_and_items_are_sorted_by_path(store: ObjectStore) -> None:
    dataset = imported(store, {"dog/1.png": b"d", "cat/2.jpg": b"c", "cat/10.jpg": b"c"})
    assert dataset.classes == ["cat", "dog"]
    assert [(item.path, item.label, item.bytes) for item in dataset.items] == [
        ("cat/10.jpg", "cat", 1),
        ("cat/2.jpg", "cat", 1),
        ("dog/1.png", "dog", 1),
    ]
    assert dataset.labels == [0, 0, 1]
    assert dataset.items[0].sha256 == hashlib.sha256(b"c").hexdigest()
    assert records.load(store, "default", dataset.id) == dataset


@pytest.mark.parametrize("top", ["", "caltech/", "./", "./caltech/"])
def test_one_folder_around_the_classes_makes_no_difference(top: str, store: ObjectStore) -> None:
    dataset = imported(store, {f"{top}cat/1.jpg": b"c", f"{top}dog/1.jpg": b"d"})
    plain = imported(store, {"cat/1.jpg": b"c", "dog/1.jpg": b"d"})
    assert dataset.id == plain.id


def test_a_lone_class_is_a_class_and_no_folder_around_it(store: ObjectStore) -> None:
    assert imported(store, {"cat/1.jpg": b"c"}).classes == ["cat"]
    assert imported(store, {"pets/cat/1.jpg": b"c"}).classes == ["cat"]


def test_hidden_files_and_files_that_are_no_images_are_listed(store: ObjectStore) -> None:
    dataset = imported(
        store,
        {
            "cat/1.JPG": b"c",
            "cat/.2.jpg": b"x",
            "__MACOSX/cat/._1.jpg": b"x",
            "README.md": b"x",
            "cat/Thumbs.db": b"x",
            "cat/huge.jpg": b"x" * 101,
        },
    )
    assert [item.path for item in dataset.items] == ["cat/1.JPG"]
    assert dataset.skipped == [
        "cat/.2.jpg (hidden)",
        "__MACOSX/cat/._1.jpg (hidden)",
        "README.md (no image by its name)",
        "cat/Thumbs.db (no image by its name)",
        "cat/huge.jpg (over 100 bytes)",
    ]


def test_the_list_of_skipped_files_is_bounded(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "MAX_SKIPPED", 2)
    dataset = imported(store, {"a/1.jpg": b"x"} | {f"a/{i}.txt": b"" for i in range(5)})
    assert dataset.skipped[2:] == ["and 3 more"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"1.jpg": b"x"}, "at the root"),
        ({"cat/1.jpg": b"x", "2.jpg": b"x"}, "'2.jpg' lies at the root"),
        ({"train/cat/1.jpg": b"x", "test/cat/1.jpg": b"x"}, "too deep"),
        ({"a/b/c/1.jpg": b"x"}, "too deep"),
        ({"pets/cat/1.jpg": b"x", "pets/2.jpg": b"x"}, "too deep"),
        ({}, "no images"),
        ({"cat/notes.txt": b"x"}, "notes.txt"),
    ],
)
def test_another_layout_is_refused_and_the_right_one_named(
    files: dict[str, bytes], reason: str, store: ObjectStore
) -> None:
    with pytest.raises(InvalidParameter, match=reason) as caught:
        imported(store, files)
    assert "<class>/<image>" in str(caught.value)
    assert records.ids(store, "default") == []


def test_the_id_is_that_of_the_content_whatever_its_order_and_packing(
    store: ObjectStore,
) -> None:
    files = {f"c{i % 3}/{i}.jpg": bytes([i]) for i in range(20)}
    first = imported(store, files, "one")
    shuffled = list(files.items())
    random.Random(1).shuffle(shuffled)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, data in shuffled:
            info = tarfile.TarInfo(f"top/{path}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    second, new = import_archive(store, out, owner="default", name="two", limits=LIMITS, now_s=9.0)
    assert (second, new) == (first, False)


@pytest.mark.parametrize(
    "other",
    [
        {"cat/1.jpg": b"c", "dog/1.jpg": b"D"},
        {"cat/1.jpg": b"c", "dog/2.jpg": b"d"},
        {"cat/1.jpg": b"c", "cow/1.jpg": b"d"},
        {"cat/1.jpg": b"c"},
    ],
)
def test_other_content_is_another_dataset(other: dict[str, bytes], store: ObjectStore) -> None:
    dataset = imported(store, {"cat/1.jpg": b"c", "dog/1.jpg": b"d"})
    assert imported(store, other).id != dataset.id
    assert len(records.ids(store, "default")) == 2


def test_the_same_image_is_stored_once(store: ObjectStore) -> None:
    imported(store, {f"a/{i}.jpg": b"same" for i in range(30)})
    assert list(store.keys("blobs")) == [layout.blob(hashlib.sha256(b"same").hexdigest())]


def test_datasets_of_another_owner_are_not_there(store: ObjectStore) -> None:
    dataset = imported(store, {"a/1.jpg": b"x"})
    with pytest.raises(UnknownName, match=dataset.id):
        records.load(store, "somebody", dataset.id)
    with pytest.raises(UnknownName):
        records.load_body(store, "somebody", dataset.id)


@pytest.mark.parametrize("told", [2, 9])
def test_a_member_of_another_length_than_told_is_refused(told: int, store: ObjectStore) -> None:
    data = bytearray(zipped({"a/1.jpg": b"four"}).getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<L", told)
    with pytest.raises(InvalidParameter, match=r"cut short|broken"):
        import_archive(store, io.BytesIO(data), owner="default", name="", limits=LIMITS, now_s=0.0)


class FullStore(ObjectStore):
    """Fails from the third image on."""

    def __init__(self, whole: ObjectStore) -> None:
        super().__init__(whole._backend, "a full disk")
        self._left = 2
        self._lock = threading.Lock()

    def put_new(self, key: str, data: bytes | Path) -> bool:
        with self._lock:
            self._left -= 1
            if self._left < 0:
                raise DependencyError("the store is full")
        return super().put_new(key, data)


def test_a_store_that_fails_midway_leaves_no_dataset(store: ObjectStore) -> None:
    with pytest.raises(DependencyError, match="full"):
        imported(FullStore(store), {f"a/{i}.jpg": bytes([i]) for i in range(40)})
    assert records.ids(store, "default") == []


def test_all_writes_are_done_before_the_manifest(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path.as_uri())
    dataset = imported(store, {f"a/{i}.jpg": bytes([i]) for i in range(40)})
    assert all(store.exists(layout.blob(item.sha256)) for item in dataset.items)

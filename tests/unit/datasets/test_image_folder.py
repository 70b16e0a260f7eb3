"""An image folder becomes a dataset: its classes, its id, and what it leaves out."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import tarfile
import threading
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest

from offshelf.datasets import records, taking
from offshelf.datasets.archive import Archive
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import ImportLimits
from offshelf.errors import DependencyError, InvalidParameter, UnknownName
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from tests.unit.pictures import DOT, picture

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.schemas.datasets import DatasetHead, DatasetItem

LIMITS = ImportLimits(max_bytes=1 << 20, max_files=5000, max_image_bytes=100)


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore.open("memory://")


def zipped(files: dict[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out


def taken(
    store: ObjectStore, file: io.BytesIO, name: str = "n", limits: ImportLimits = LIMITS
) -> tuple[DatasetHead, bool]:
    return import_dataset(store, Archive(file, limits), Wanted("default", name, 5.0), limits)


def imported(store: ObjectStore, files: dict[str, bytes], name: str = "n") -> DatasetHead:
    head, _ = taken(store, zipped(files), name)
    return head


def items_of(store: ObjectStore, head: DatasetHead) -> list[DatasetItem]:
    return list(records.load(store, "default", head.id).items)


def skipped(head: DatasetHead) -> dict[str, str]:
    return {file.path: file.reason for file in head.skipped}


def test_folders_are_classes_and_items_are_sorted_by_path(store: ObjectStore) -> None:
    cat, dog = picture("cat"), picture("dog!")
    head = imported(store, {"dog/1.png": dog, "cat/2.jpg": cat, "cat/10.jpg": cat})
    assert (head.classes, head.counts, head.total) == (["cat", "dog"], {"cat": 2, "dog": 1}, 3)
    assert (head.layout, head.version, head.bytes) == ("folder", 1, 2 * len(cat) + len(dog))
    dataset = records.load(store, "default", head.id)
    assert [(item.path, item.label, item.bytes) for item in dataset.items] == [
        ("cat/10.jpg", "cat", len(cat)),
        ("cat/2.jpg", "cat", len(cat)),
        ("dog/1.png", "dog", len(dog)),
    ]
    assert dataset.labels == [0, 0, 1]
    assert dataset.items[-1].sha256 == hashlib.sha256(dog).hexdigest()
    assert store.get(layout.blob(dataset.items[-1].sha256)) == dog


@pytest.mark.parametrize("top", ["", "caltech/", "./", "./caltech/"])
def test_one_folder_around_the_classes_makes_no_difference(top: str, store: ObjectStore) -> None:
    head = imported(store, {f"{top}cat/1.jpg": DOT, f"{top}dog/1.jpg": DOT})
    assert head.id == imported(store, {"cat/1.jpg": DOT, "dog/1.jpg": DOT}).id


def test_a_lone_class_is_a_class_and_no_folder_around_it(store: ObjectStore) -> None:
    assert imported(store, {"cat/1.jpg": DOT}).classes == ["cat"]
    assert imported(store, {"pets/cat/1.jpg": DOT}).classes == ["cat"]


def test_what_cannot_be_read_is_listed_and_the_rest_is_the_dataset(store: ObjectStore) -> None:
    header = b"IHDR" + struct.pack(">LL", 10_000, 10_000) + DOT[24:29]
    wide = DOT[:12] + header + struct.pack(">L", zlib.crc32(header)) + DOT[33:]
    head = imported(
        store,
        {
            "cat/1.JPG": DOT,
            "cat/.2.jpg": b"x",
            "__MACOSX/cat/._1.jpg": b"x",
            "README.md": b"x",
            "cat/Thumbs.db": b"x",
            "cat/huge.jpg": b"x" * 101,
            "cat/empty.jpg": b"",
            "cat/text.jpg": b"no image at all",
            "cat/cut.png": DOT[:20],
            "dog/wide.png": wide,
        },
    )
    assert [item.path for item in items_of(store, head)] == ["cat/1.JPG"]
    assert head.classes == ["cat"]
    told = skipped(head)
    assert told.pop("cat/text.jpg").startswith("not an image that can be read")
    assert told == {
        "cat/.2.jpg": "hidden",
        "__MACOSX/cat/._1.jpg": "hidden",
        "README.md": "no image by its name",
        "cat/Thumbs.db": "no image by its name",
        "cat/huge.jpg": "the image has 101 bytes; the limit is 100",
        "cat/empty.jpg": "the image is empty (0 bytes)",
        "cat/cut.png": "the PNG image is damaged or cut off: its header cannot be read",
        "dog/wide.png": "the image has 10000 x 10000 pixels; the limit is 64000000",
    }
    assert head.skipped_total == 9
    assert len(list(store.keys("blobs"))) == 1


def test_the_list_of_skipped_files_is_bounded(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "MAX_SKIPPED", 2)
    head = imported(store, {"a/1.jpg": DOT} | {f"a/{i}.txt": b"" for i in range(5)})
    assert (len(head.skipped), head.skipped_total) == (2, 5)


def test_an_upload_of_which_nothing_can_be_read_says_why(store: ObjectStore) -> None:
    with pytest.raises(InvalidParameter, match=r"no image that can be read: a/1\.jpg: the image i"):
        imported(store, {"a/1.jpg": b""})


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["1.jpg"], "at the root"),
        (["cat/1.jpg", "2.jpg"], "'2.jpg' lies at the root"),
        (["one/cat/1.jpg", "two/cat/1.jpg"], "too deep"),
        (["a/b/c/1.jpg"], "too deep"),
        (["pets/cat/1.jpg", "pets/2.jpg"], "too deep"),
        ([], "no images"),
        (["cat/notes.txt"], "no images"),
    ],
)
def test_another_layout_is_refused_and_the_right_one_named(
    files: list[str], reason: str, store: ObjectStore
) -> None:
    with pytest.raises(InvalidParameter, match=reason) as caught:
        imported(store, dict.fromkeys(files, DOT))
    assert "<class>/<image>" in str(caught.value)
    assert list(store.keys("")) == []


def test_the_id_is_that_of_the_content_whatever_its_order_and_packing(
    store: ObjectStore,
) -> None:
    files = {f"c{i % 3}/{i}.jpg": picture(i) for i in range(20)}
    first = imported(store, files, "one")
    shuffled = list(files.items())
    random.Random(1).shuffle(shuffled)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, data in shuffled:
            info = tarfile.TarInfo(f"top/{path}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert taken(store, out, "two") == (first, False)


@pytest.mark.parametrize(
    "other",
    [
        {"cat/1.jpg": picture("c"), "dog/1.jpg": picture("D")},
        {"cat/1.jpg": picture("c"), "dog/2.jpg": picture("d")},
        {"cat/1.jpg": picture("c"), "cow/1.jpg": picture("d")},
        {"cat/1.jpg": picture("c")},
    ],
)
def test_other_content_is_another_dataset(other: dict[str, bytes], store: ObjectStore) -> None:
    head = imported(store, {"cat/1.jpg": picture("c"), "dog/1.jpg": picture("d")})
    assert imported(store, other).id != head.id
    assert len(records.ids(store, "default")) == 2


def test_the_same_image_is_stored_once(store: ObjectStore) -> None:
    imported(store, {f"a/{i}.jpg": DOT for i in range(30)})
    assert list(store.keys("blobs")) == [layout.blob(hashlib.sha256(DOT).hexdigest())]


def test_datasets_of_another_owner_are_not_there(store: ObjectStore) -> None:
    head = imported(store, {"a/1.jpg": DOT})
    with pytest.raises(UnknownName, match=head.id):
        records.load(store, "somebody", head.id)


@pytest.mark.parametrize("told", [2, 9])
def test_a_member_of_another_length_than_told_is_refused(told: int, store: ObjectStore) -> None:
    data = bytearray(zipped({"a/1.jpg": b"four"}).getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<L", told)
    with pytest.raises(InvalidParameter, match=r"cut short|broken"):
        taken(store, io.BytesIO(data))


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
        imported(FullStore(store), {f"a/{i}.jpg": picture(i) for i in range(40)})
    assert records.ids(store, "default") == []


def test_all_writes_are_done_before_the_manifest(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path.as_uri())
    head = imported(store, {f"a/{i}.jpg": picture(i) for i in range(40)})
    assert all(store.exists(layout.blob(item.sha256)) for item in items_of(store, head))

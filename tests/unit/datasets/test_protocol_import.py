"""Uploads in official layouts: what is stored, what they are called, what is refused."""

from __future__ import annotations

import errno
import hashlib
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from offshelf.datasets import outline, records
from offshelf.datasets.archive import Archive
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import ImportLimits, Unwatched
from offshelf.datasets.protocol_import import id_of_copy
from offshelf.errors import DependencyError, InvalidParameter, TooLarge
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from tests.unit.datasets.protocols import test_cub200, test_mit67, test_voc, test_voc_action
from tests.unit.datasets.protocols.copies import PICTURE, pictures, protocol, write

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.schemas.datasets import Dataset, DatasetHead

LIMITS = ImportLimits(max_bytes=10**7, max_files=1000, max_image_bytes=10**5)


def tarred(root: Path, prefix: str = "") -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                tar.add(path, arcname=prefix + path.relative_to(root).as_posix())
    out.seek(0)
    return out


def taken(
    file: io.BytesIO, name: str, store: ObjectStore | None = None, limits: ImportLimits = LIMITS
) -> tuple[DatasetHead, bool]:
    wanted = Wanted("default", "mine", 1.0, protocol=name)
    store = store or ObjectStore.open("memory://")
    return import_dataset(store, Archive(file, limits), wanted, limits)


def imported(file: io.BytesIO, name: str, limits: ImportLimits = LIMITS) -> Dataset:
    store = ObjectStore.open("memory://")
    head, _ = taken(file, name, store, limits)
    return records.load(store, "default", head.id)


def test_what_the_protocol_reads_is_what_is_stored(tmp_path: Path) -> None:
    root = test_voc.copy(tmp_path)
    store = ObjectStore.open("memory://")
    body, new = taken(tarred(root), "voc2007", store)
    assert new
    dataset = records.load(store, "default", body.id)
    description = records.load_description(store, "default", dataset.id)
    assert description == protocol("voc2007").read(root)
    assert [item.path for item in dataset.items] == [item.key for item in description.items]
    assert store.get(layout.blob(dataset.items[0].sha256)) == PICTURE
    assert (body.layout, body.skipped) == ("voc2007", [])
    assert body.protocol is not None
    assert (body.protocol.name, body.protocol.multi_label) == ("voc2007", True)
    (split,) = body.protocol.splits
    assert (split.train, split.val, split.test) == (2, 1, 3)
    assert (body.total, body.counts["car"], body.counts["dog"]) == (6, 2, 0)
    assert taken(tarred(root), "voc2007", store) == (body, False)


@pytest.mark.parametrize("prefix", ["", "VOCdevkit/", "mine/VOCdevkit/", "./"])
def test_the_layout_may_be_in_one_folder_more(prefix: str, tmp_path: Path) -> None:
    root = test_voc.copy(tmp_path) / "VOCdevkit"
    dataset = imported(tarred(root, prefix), "voc2007")
    assert len(dataset.items) == 6


def test_the_id_is_that_of_the_content_and_can_be_told_without_uploading(tmp_path: Path) -> None:
    root = test_mit67.copy(tmp_path / "a", ["x/1.jpg", "y/2.jpg"], ["x/3.jpg"])
    first = imported(tarred(root, "some/"), "mit67")
    assert id_of_copy(protocol("mit67").read(root), root) == first.id
    write(root, {"Images/x/4.jpg": b"in no list"})
    assert imported(tarred(root), "mit67").id == first.id
    write(root, {"Images/x/1.jpg": PICTURE + b"one byte more"})
    other = imported(tarred(root), "mit67")
    write(
        root, {"Images/x/1.jpg": PICTURE, "TestImages.txt": "y/2.jpg", "TrainImages.txt": "x/3.jpg"}
    )
    assert len({first.id, other.id, imported(tarred(root), "mit67").id}) == 3


def test_an_image_that_cannot_be_read_stays_a_sample_and_is_listed(tmp_path: Path) -> None:
    root = test_mit67.copy(tmp_path, ["x/1.jpg", "y/2.jpg"], ["x/3.jpg"])
    write(root, {"Images/y/2.jpg": b"no image"})
    store = ObjectStore.open("memory://")
    head, _ = taken(tarred(root), "mit67", store)
    assert (head.total, head.skipped_total) == (3, 1)
    assert head.skipped[0].path == "Images/y/2.jpg"
    (item,) = [i for i in records.load(store, "default", head.id).items if i.path.endswith("2.jpg")]
    assert store.get(layout.blob(item.sha256)) == b"no image"


def test_images_that_no_list_names_are_not_stored(tmp_path: Path) -> None:
    root = test_mit67.copy(tmp_path, ["x/1.jpg", "y/2.jpg"], ["x/3.jpg"])
    write(root, {"Images/x/extra.jpg": b"extra", "Images/x/.hidden.jpg": b"", "notes.bin": b"x"})
    store = ObjectStore.open("memory://")
    taken(tarred(root), "mit67", store)
    assert not store.exists(layout.blob(hashlib.sha256(b"extra").hexdigest()))


def test_people_share_an_image_and_have_boxes(tmp_path: Path) -> None:
    dataset = imported(tarred(test_voc_action.copy(tmp_path)), "voc2012-action")
    first, second = dataset.items[:2]
    assert (first.path, second.path) == ("2010_1/1", "2010_1/2")
    assert first.sha256 == second.sha256
    assert (first.boxes, second.boxes) == ([(10, 0, 15.5, 9)], [(20, 0, 25.5, 9)])


def test_parts_that_a_sample_lacks_have_no_box(tmp_path: Path) -> None:
    dataset = imported(tarred(test_cub200.copy(tmp_path)), "cub200-parts")
    assert dataset.protocol is not None
    assert dataset.protocol.regions == ["body", "head", "object"]
    boxes = {item.path: item.boxes for item in dataset.items}
    assert boxes[test_cub200.IMAGES["2"]] == [None, None, (-2.5, -1.0, 12.5, 14.0)]
    assert all(box is not None for box in boxes[test_cub200.IMAGES["1"]])
    whole = imported(tarred(test_cub200.copy(tmp_path)), "cub200-image")
    assert [item.boxes for item in whole.items] == [[], [], []]


def test_a_row_without_a_box_is_its_whole_image(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.jpg", "b.jpg"])
    write(
        tmp_path, {"labels.csv": "path,label,left,top,right,bottom\na.jpg,x,1,2,3,4\nb.jpg,y,,,,\n"}
    )
    dataset = imported(tarred(tmp_path), "csv")
    assert [item.boxes for item in dataset.items] == [[(1, 2, 3, 4)], []]
    assert dataset.labels == [0, 1]


def test_what_is_missing_is_told_and_nothing_is_stored(tmp_path: Path) -> None:
    root = test_voc.copy(tmp_path)
    (root / "VOCdevkit/VOC2007/JPEGImages/000004.jpg").unlink()
    store = ObjectStore.open("memory://")
    with pytest.raises(InvalidParameter) as caught:
        taken(tarred(root), "voc2007", store)
    told = str(caught.value)
    assert "missing images: JPEGImages/000004.jpg" in told
    assert "the layout is VOCdevkit/VOC2007/JPEGImages/<id>.jpg" in told
    assert str(tmp_path) not in told
    assert "/tmp" not in told
    assert list(store.keys("")) == []


def test_limits_are_those_of_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = test_mit67.copy(tmp_path, ["x/1.jpg", "y/2.jpg"], ["x/3.jpg"])
    small = ImportLimits(max_bytes=10**7, max_files=1000, max_image_bytes=len(PICTURE) - 1)
    with pytest.raises(TooLarge, match=r"'Images/x/\d\.jpg': the image has .* the limit is"):
        imported(tarred(root), "mit67", limits=small)
    with pytest.raises(TooLarge, match="more than 3 entries"):
        imported(tarred(root), "mit67", limits=ImportLimits(10**7, 3, 10**5))
    monkeypatch.setattr(outline, "MAX_LISTS_BYTES", 10)
    with pytest.raises(TooLarge, match="lists of the archive come to more than 10 bytes"):
        imported(tarred(root), "mit67")


def zipped(files: dict[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    out.seek(0)
    return out


def unpack(files: dict[str, bytes], folder: Path) -> None:
    outline.unpack(Archive(zipped(files), LIMITS), folder, LIMITS, Unwatched())


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a": b"x", "a/b.txt": b"y"}, "'a/b.txt' cannot be a file here"),
        ({"n" * 300 + ".txt": b"x"}, "cannot be a file here: File name too long"),
        ({"../TrainImages.txt": b"x"}, "a path with '..'"),
    ],
)
def test_paths_that_cannot_be_files_are_refused(files: dict[str, bytes], told: str) -> None:
    with pytest.raises(InvalidParameter, match=told.replace("..", r"\.\.")):
        imported(zipped(files), "mit67")


def test_a_full_disk_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outline.shutil, "copyfileobj", full)
    with pytest.raises(DependencyError, match="no room to unpack an upload"):
        unpack({"TrainImages.txt": b"x"}, tmp_path)


def test_images_are_never_unpacked(tmp_path: Path) -> None:
    big = {"Images/x/1.jpg": bytes(50_000), "Images/x/2.jpg": b"", "TrainImages.txt": b"x/1.jpg"}
    unpack(big, tmp_path)
    sizes = {path.name: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert sizes == {"1.jpg": 1, "2.jpg": 0, "TrainImages.txt": 7}

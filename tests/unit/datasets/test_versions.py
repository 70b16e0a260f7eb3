"""Versions of a name, adding to a dataset, and what is left of one that is deleted."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest

from offshelf.datasets import pages, records
from offshelf.datasets.archive import Archive
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import ImportLimits
from offshelf.errors import DependencyError, InvalidParameter, UnknownName
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from tests.unit.pictures import picture

if TYPE_CHECKING:
    from offshelf.schemas.datasets import DatasetHead

LIMITS = ImportLimits(max_bytes=1 << 20, max_files=100, max_image_bytes=1000)


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore.open("memory://")


def add(
    store: ObjectStore, *paths: str, name: str = "pets", parent: DatasetHead | None = None
) -> tuple[DatasetHead, bool]:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in paths:
            archive.writestr(path, picture(path.removeprefix("pets/")))
    wanted = Wanted("default", name, 1.0, parent=parent)
    return import_dataset(store, Archive(out, LIMITS), wanted, LIMITS)


def paths(store: ObjectStore, head: DatasetHead) -> list[str]:
    return [item.path for item in records.load(store, "default", head.id).items]


def test_other_content_under_a_name_is_its_next_version(store: ObjectStore) -> None:
    first, _ = add(store, "cat/1.jpg")
    second, _ = add(store, "cat/2.jpg")
    other, _ = add(store, "cat/3.jpg", name="more")
    assert [head.version for head in (first, second, other)] == [1, 2, 1]
    assert list(records.versions(store, "default", "pets")) == [second, first]
    assert (second.parent, first.parent) == (None, None)


def test_the_same_images_tell_what_was_left_out_this_time(store: ObjectStore) -> None:
    first, _ = add(store, "cat/1.jpg", "cat/notes.txt")
    again, new = add(store, "cat/1.jpg", "cat/other.txt", "cat/more.txt")
    assert (again.id, new) == (first.id, False)
    assert [file.path for file in again.skipped] == ["cat/other.txt", "cat/more.txt"]
    assert again.skipped_total == 2
    assert records.load_head(store, "default", first.id) == first


def test_adding_makes_a_version_and_leaves_the_dataset_as_it_was(store: ObjectStore) -> None:
    first, _ = add(store, "pets/cat/2.jpg", "pets/dog/1.jpg")
    second, new = add(store, "cow/1.jpg", "cat/1.jpg", name="ignored", parent=first)
    assert new
    assert (second.name, second.version, second.parent) == ("pets", 2, first.id)
    assert paths(store, second) == ["cat/1.jpg", "cat/2.jpg", "cow/1.jpg", "dog/1.jpg"]
    assert second.counts == {"cat": 2, "cow": 1, "dog": 1}
    assert paths(store, first) == ["cat/2.jpg", "dog/1.jpg"]
    whole, new = add(store, *paths(store, second), name="at once")
    assert (whole, new) == (second, False)


def test_adding_what_is_there_changes_nothing(store: ObjectStore) -> None:
    first, _ = add(store, "cat/1.jpg", "cat/2.jpg")
    assert add(store, "cat/1.jpg", parent=first) == (first, False)
    assert len(list(records.versions(store, "default", "pets"))) == 1


def test_adding_never_replaces_an_image(store: ObjectStore) -> None:
    first, _ = add(store, "cat/1.jpg")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("cat/1.jpg", picture("other"))
    wanted = Wanted("default", "pets", 1.0, parent=first)
    with pytest.raises(InvalidParameter, match=r"'cat/1\.jpg' is in the dataset already, with ano"):
        import_dataset(store, Archive(out, LIMITS), wanted, LIMITS)


def test_a_dataset_of_a_protocol_takes_no_more_images(store: ObjectStore) -> None:
    first, _ = add(store, "train/cat/1.jpg", "test/cat/1.jpg")
    assert first.layout == "image-folder"
    with pytest.raises(InvalidParameter, match="read by the protocol image-folder"):
        add(store, "cat/2.jpg", parent=first)


def test_datasets_are_found_by_id_name_and_version(store: ObjectStore) -> None:
    first, _ = add(store, "cat/1.jpg")
    second, _ = add(store, "cat/2.jpg")
    odd, _ = add(store, "cat/3.jpg", name="a/b:1")
    for reference, head in {
        first.id: first,
        "pets": second,
        "pets:1": first,
        "pets:2": second,
        "a/b:1": odd,
        "a/b:1:1": odd,
    }.items():
        assert records.find(store, "default", reference) == head
    for nothing in ("pets:3", "pet", "a/b", "ds-" + "0" * 24, "", "pets:0", "../x"):
        with pytest.raises(UnknownName, match="no dataset"):
            records.find(store, "default", nothing)


def test_the_number_of_a_deleted_version_is_never_given_again(store: ObjectStore) -> None:
    add(store, "cat/1.jpg")
    second, _ = add(store, "cat/2.jpg")
    records.delete(store, "default", second.id)
    assert records.find(store, "default", "pets").version == 1
    third, _ = add(store, "cat/3.jpg")
    assert third.version == 3
    again, new = add(store, "cat/2.jpg")
    assert (again, new) == (second, True)


def test_deleting_leaves_the_images_alone(store: ObjectStore) -> None:
    first, _ = add(store, "cat/1.jpg")
    blobs = list(store.keys("blobs"))
    records.delete(store, "default", first.id)
    with pytest.raises(UnknownName):
        records.load(store, "default", first.id)
    assert list(store.keys("blobs")) == blobs
    assert list(store.keys(layout.dataset_pages("default", first.id))) == []


def test_a_writer_that_died_before_the_manifest_left_nothing_that_shows(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_ITEMS", 2)
    monkeypatch.setattr(records, "PAGE_ITEMS", 2)
    put, names = store.put_new, [f"cat/{n}.jpg" for n in range(5)]

    def dying(key: str, data: bytes) -> bool:
        if key.startswith(layout.datasets("default") + "/"):
            raise DependencyError("killed")
        return put(key, data)

    monkeypatch.setattr(store, "put_new", dying)
    with pytest.raises(DependencyError):
        add(store, *names)
    assert records.ids(store, "default") == []
    assert list(records.versions(store, "default", "pets")) == []
    monkeypatch.setattr(store, "put_new", put)
    head, new = add(store, *names)
    assert (head.version, new, paths(store, head)) == (1, True, names)
    assert len(list(store.keys(layout.dataset_pages("default", head.id)))) == 3


def test_two_who_claim_at_once_get_two_numbers(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put_new

    def overtaken(key: str, data: bytes) -> bool:
        if key.startswith("owners/default/dataset-names/"):
            monkeypatch.setattr(store, "put_new", put)
            add(store, "cat/2.jpg")
        return put(key, data)

    monkeypatch.setattr(store, "put_new", overtaken)
    slower, _ = add(store, "cat/1.jpg")
    assert slower.version == 2
    assert [head.version for head in records.versions(store, "default", "pets")] == [2, 1]

"""Sources are read below allowed roots only, whatever paths and links say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import ImportLimits
from offshelf.datasets.sources import SETTING, Sources, place
from offshelf.errors import InvalidImage, InvalidParameter
from offshelf.store.objects import ObjectStore
from tests.unit.pictures import DOT, picture

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = ImportLimits(max_bytes=1, max_files=1000, max_image_bytes=10_000)


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(picture(path))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "root", "pets/cat/1.jpg", "pets/dog/1.jpg")


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("/data/flowers", "/data/flowers"),
        ("/data//flowers/./", "/data/flowers"),
        ("file:///data/a%20b", "/data/a b"),
        ("/data/a%20b", "/data/a%20b"),
        ("/", "/"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a//b/", "s3://bucket/a/b"),
    ],
)
def test_places_have_one_form(given: str, canonical: str) -> None:
    assert place(given) == canonical


@pytest.mark.parametrize(
    "given",
    ["data", "", "../data", "/data/../etc", "file:///a/%2e%2e/b", "file://host/a", "s3://", "s3:///",
     "s3://b/../c", "http://host/a", "/a\0b", "file:///a%00b"],
)  # fmt: skip
def test_what_is_no_place_is_refused(given: str) -> None:
    with pytest.raises(InvalidParameter, match="no place to read from"):
        place(given)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "roots", "root", "pets"]), max_size=8))
def test_no_path_leads_out_of_a_root(parts: list[str]) -> None:
    text = "/" + "/".join(parts)
    normal = os.path.normpath(text).replace("//", "/")
    inside = normal == "/root" or normal.startswith("/root/")
    if ".." in parts or not inside:
        with pytest.raises(InvalidParameter, match=rf"{SETTING}|without '\.\.'"):
            Sources(["/root"]).open(text)
    else:
        found = Sources(["/root"]).open(text)
        assert str(found.path) == normal  # type: ignore[attr-defined]


def test_without_roots_nothing_is_allowed_and_nothing_is_told(root: Path) -> None:
    for place_there in (root, root / "nothing"):
        with pytest.raises(InvalidParameter, match=SETTING) as caught:
            Sources().open(str(place_there))
        assert str(caught.value) == (
            f"the service may not read {str(place_there)!r}: what it may read is set by {SETTING}"
        )


@pytest.mark.parametrize("beside", ["s3://pictures-2/a", "s3://pictures/flowers2", "/s3/pictures"])
def test_a_bucket_allows_its_prefix_alone(beside: str) -> None:
    sources = Sources(["s3://pictures/flowers"])
    assert sources.open("s3://pictures/flowers/red").parallel
    with pytest.raises(InvalidParameter, match=SETTING):
        sources.open(beside)


def test_the_files_of_a_folder_are_all_found_whatever_they_are_called(root: Path) -> None:
    names = ["a b/x#1.jpg", "50%.jpg", "é~[1]*.jpg", "sp%20ace.jpg", "tmp.jpg#12", ".hidden"]
    write(root / "odd", *names)
    members = {m.path: m for m in Sources([str(root)]).open(str(root / "odd")).members()}
    assert set(members) == set(names)
    for name, member in members.items():
        assert member.open().read() == picture(name)
        assert member.size == len(picture(name))
        assert Sources([str(root)]).open(member.source).read(10_000) == picture(name)


def test_links_are_followed_inside_a_root_only_and_never_to_folders(
    root: Path, tmp_path: Path
) -> None:
    secret = write(tmp_path / "elsewhere", "secret.jpg")
    pets = root / "pets"
    (pets / "cat" / "in.jpg").symlink_to(root / "pets" / "dog" / "1.jpg")
    (pets / "cat" / "out.jpg").symlink_to(secret / "secret.jpg")
    (pets / "cat" / "gone.jpg").symlink_to(root / "nothing.jpg")
    (pets / "loop.jpg").symlink_to(root)
    (pets / "out").symlink_to(secret)
    os.mkfifo(pets / "cat" / "pipe.jpg")
    sources = Sources([str(root)])
    members = {member.path: member for member in sources.open(str(pets)).members()}
    refused = {path: member.refused for path, member in members.items() if member.refused}
    assert refused == {
        "cat/out.jpg": "a link that leads out of what the service may read",
        "out": "a link that leads out of what the service may read",
        "cat/gone.jpg": "not a file",
        "cat/pipe.jpg": "not a file",
        "loop.jpg": "not a file",
    }
    assert members["cat/in.jpg"].open().read() == picture("pets/dog/1.jpg")


def test_a_root_that_is_a_link_is_what_it_points_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    found = Sources([str(tmp_path / "alias")]).open(str(tmp_path / "alias" / "pets"))
    assert {member.path for member in found.members()} == {"cat/1.jpg", "dog/1.jpg"}


def test_a_folder_that_is_a_link_out_of_the_root_is_forbidden(root: Path, tmp_path: Path) -> None:
    (root / "etc").symlink_to(tmp_path)
    with pytest.raises(InvalidParameter, match=SETTING):
        Sources([str(root)]).open(str(root / "etc"))


def test_a_link_that_came_after_the_listing_is_not_followed(root: Path, tmp_path: Path) -> None:
    file = root / "pets" / "cat" / "1.jpg"
    source = Sources([str(root)]).open(str(root / "pets"))
    (member,) = [m for m in source.members() if m.path == "cat/1.jpg"]
    file.unlink()
    file.symlink_to(write(tmp_path, "secret.jpg") / "secret.jpg")
    with pytest.raises(InvalidImage, match="leads out"):
        member.open()


def test_a_folder_that_cannot_be_listed_is_listed_itself(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "cat":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    members = {m.path: m.refused for m in Sources([str(root)]).open(f"{root}/pets").members()}
    assert members == {
        "cat": "the folder cannot be listed: Permission denied",
        "dog/1.jpg": "",
    }


def test_a_disk_that_is_away_is_told_from_a_file_that_is_gone(root: Path) -> None:
    sources = Sources([str(root)])
    assert sources.has(f"{root}/pets/cat/none.jpg")
    assert not sources.has(f"{root}/disk/cat/1.jpg")
    assert not Sources(["/elsewhere"]).has(f"{root}/pets/cat/1.jpg")
    assert Sources(["s3://b"]).has("s3://b/any.jpg")


def test_a_folder_that_is_not_there_is_told(root: Path) -> None:
    with pytest.raises(InvalidParameter, match="there is no folder"):
        list(Sources([str(root)]).open(str(root / "none")).members())


def test_registered_images_stay_where_they_are_unless_they_are_copied(root: Path) -> None:
    (root / "pets" / "cat" / "text.jpg").write_bytes(b"text")
    where = str(root / "pets")
    ids = set()
    for copied in (False, True):
        store = ObjectStore.open("memory://")
        wanted = Wanted("default", "pets", 1.0, source=where, copied=copied)
        head, _ = import_dataset(store, Sources([str(root)]).open(where), wanted, LIMITS)
        assert (head.source, head.copied, head.total) == (where, copied, 2)
        assert [file.path for file in head.skipped] == ["cat/text.jpg"]
        assert len(list(store.keys("blobs"))) == (2 if copied else 0)
        ids.add(head.id)
    assert len(ids) == 1


def test_names_that_cannot_be_items_are_listed(root: Path) -> None:
    odd = os.fsencode(root / "pets" / "cat") + b"/\xff.jpg"
    with open(odd, "wb") as file:  # noqa: PTH123  # a Path is no bytes
        file.write(DOT)
    store = ObjectStore.open("memory://")
    where = str(root / "pets")
    wanted = Wanted("default", "pets", 1.0, source=where, copied=False)
    head, _ = import_dataset(store, Sources([str(root)]).open(where), wanted, LIMITS)
    (listed,) = head.skipped
    assert listed.path == r"cat/\udcff.jpg"
    assert "not UTF-8" in listed.reason

"""The store keeps whole objects under keys, the same in memory and in a directory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from offshelf.errors import DependencyError, ErrorInfo, InvalidParameter, UnknownName
from offshelf.store import layout, objects
from offshelf.store.objects import ObjectStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return ObjectStore.open("memory://")
    return ObjectStore.open((tmp_path / "with spaces" / "störe").as_uri())


def test_put_new_keeps_the_first(store: ObjectStore) -> None:
    assert store.put_new("a", b"one")
    assert not store.put_new("a", b"two")
    assert store.get("a") == b"one"


def test_of_many_who_put_new_at_once_one_wins(store: ObjectStore) -> None:
    start = threading.Barrier(8)

    def write(i: int) -> bool:
        start.wait(10)
        return store.put_new("a", bytes([i]))

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert store.get("a") == bytes([won.index(True)])


@pytest.mark.parametrize("conditional_bytes", [objects.MAX_CONDITIONAL_BYTES, 10])
def test_put_new_streams_a_file_once(
    conditional_bytes: int, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "MAX_CONDITIONAL_BYTES", conditional_bytes)
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 30_000)  # more than one part of an upload
    assert store.put_new("big", source)
    assert store.get("big") == source.read_bytes()
    source.write_bytes(b"y" * 20)
    assert not store.put_new("big", source)
    assert len(store.get("big")) == 256 * 30_000


def test_what_is_not_there_is_an_unknown_name(store: ObjectStore) -> None:
    with pytest.raises(UnknownName, match="'a/b'") as caught:
        store.get("a/b")
    assert "://" not in str(caught.value)
    assert not store.exists("a/b")


def test_delete_is_done_once_or_twice(store: ObjectStore) -> None:
    store.put_new("a", b"x")
    assert store.exists("a")
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


def test_keys_are_those_under_the_folder_in_order(store: ObjectStore) -> None:
    for key in ("x/b", "x/a/1", "xy/c", "x/a/0", "z"):
        store.put_new(key, b"")
    assert list(store.keys("x")) == ["x/a/0", "x/a/1", "x/b"]
    assert list(store.keys("none")) == []


def test_a_key_never_leads_out_of_the_store(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    with pytest.raises(UnknownName):
        store.get("../../outside")


def test_an_unusable_place_is_a_dependency_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DependencyError):
        ObjectStore.open((tmp_path / "file" / "store").as_uri())


def test_a_failing_write_is_a_dependency_error(tmp_path: Path) -> None:
    store = ObjectStore.open((tmp_path / "store").as_uri())
    store.put_new("a", b"")
    with pytest.raises(DependencyError, match="'a/b'") as caught:
        store.put_new("a/b", b"")  # `a` is no folder
    assert str(tmp_path) in str(caught.value)
    assert str(tmp_path) not in ErrorInfo.of(caught.value).message


def test_an_s3_server_that_is_away_is_a_dependency_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "S3_RETRY", {"max_retries": 0})
    with pytest.raises(DependencyError):
        ObjectStore.open("s3://bucket/prefix").get("a")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="s3://"):
        ObjectStore.open("ftp://host/path")
    with pytest.raises(InvalidParameter) as caught:
        ObjectStore.open("s4://me:secret@bucket/path?key=secret")
    assert "secret" not in str(caught.value)


def test_layout_names_are_distinct_keys() -> None:
    keys = {
        layout.blob("ab12"),
        layout.dataset("default", "d"),
        layout.dataset_page("default", "d", 4096, 0),
        layout.dataset_version("default", "n", 1),
        layout.shard("d", "f", 0),
        layout.feature_set("default", "s"),
        layout.head_weights("default", "h"),
        layout.head_card("default", "h"),
    }
    assert len(keys) == 8
    assert layout.head_card("default", "h").startswith(layout.heads("default") + "/")
    assert layout.dataset("default", "d").startswith(layout.datasets("default") + "/")
    assert not layout.dataset_page("default", "d", 4096, 0).startswith(
        layout.datasets("default") + "/"
    )

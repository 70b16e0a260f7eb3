"""What is written when all shards of a feature set are there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.errors import DependencyError, UnknownName
from offshelf.exports import arrays, records, shard_index
from offshelf.exports.items import read_items
from offshelf.exports.shard_index import read_index
from offshelf.heads.features import Shard, load_feature_set
from offshelf.heads.removing import remove_feature_set
from offshelf.schemas.feature_sets import FeatureSetCard
from offshelf.store import layout
from tests.unit.exports.making import TORN, made
from tests.unit.worker.fakes import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator


class CountingStore(MemoryStore):
    """Notes which objects are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)

    def keys(self, prefix: str) -> Iterator[str]:
        return super().keys(prefix)


def test_the_manifest_says_what_there_is() -> None:
    one = made(MemoryStore())
    manifest = load_feature_set(one.store, "default", "features-1")
    assert manifest == one.manifest
    assert manifest.kept == [0, 1, 2, 4, 5, 6, 7, 9]
    assert manifest.errors == {3: TORN, 8: TORN}
    assert (manifest.shards, manifest.total, manifest.versions) == (3, 10, {"offshelf": "0"})
    assert manifest.taps["conv5:pre"].row_shape == [2, 3, 3]
    assert one.table.rows == [3, 4, 1]


def test_a_list_reads_cards_and_no_manifest() -> None:
    store = CountingStore()
    made(store)
    store.read.clear()
    card = records.load_card(store, "default", "features-1")
    assert (card.rows, card.failed, card.total) == (8, 2, 10)
    assert layout.feature_set("default", "features-1") not in store.read
    assert "kept" not in FeatureSetCard.model_fields


def test_a_card_that_was_not_written_is_made_of_the_manifest() -> None:
    one = made(MemoryStore())
    told = one.card
    one.store.delete(layout.feature_set_card("default", "features-1"))
    assert records.load_card(one.store, "default", "features-1") == told
    with pytest.raises(UnknownName, match="no feature set 'other'"):
        records.load_card(one.store, "default", "other")


def test_committing_again_changes_nothing() -> None:
    store = MemoryStore()
    first = made(store).manifest
    before = dict(store.objects)
    assert made(store).manifest == first
    assert store.objects == before


def test_items_are_read_from_their_shards_alone() -> None:
    one = made(MemoryStore())
    found = read_items(one.store, one.table, one.card, 0, 100)
    assert [item.path for item in found] == [item.path for item in one.dataset.items]
    assert [item.index for item in found if item.row is not None] == one.manifest.kept
    assert [item.row for item in found if item.row is not None] == list(range(8))
    assert {item.index: item.error for item in found if item.error} == {3: TORN, 8: TORN}
    for first in range(11):
        for count in range(1, 11):
            part = read_items(one.store, one.table, one.card, first, count)
            assert list(part) == list(found[first : first + count])


def test_a_set_without_a_good_row_is_a_set() -> None:
    one = made(MemoryStore(), bad=range(10))
    assert one.manifest.kept == []
    assert len(one.manifest.errors) == 10
    assert one.manifest.taps["fc7"].row_shape == [0]


def test_samples_of_regions_have_rows_of_regions() -> None:
    one = made(MemoryStore(), shapes={"fc7": (2, 6)})
    assert one.manifest.taps["fc7"].row_shape == [2, 6]


def test_other_rows_have_another_digest() -> None:
    digests = {made(MemoryStore(), seed=seed).manifest.taps["fc7"].digest for seed in (0, 0, 1)} | {
        made(MemoryStore(), shard_images=3).manifest.taps["fc7"].digest
    }
    assert len(digests) == 3


def test_a_set_is_deleted_by_its_card_and_lists_go_on_without_it() -> None:
    store = CountingStore()
    one, other = made(store), made(store, name="features-2", total=11)
    card = other.card
    store.read.clear()
    remove_feature_set(store, card)
    assert not [key for key in store.read if key == layout.feature_set("default", "features-2")]
    left = records.cards(store, "default", ["features-1", "features-2"])
    assert list(left) == [one.card]


def test_a_set_that_is_deleted_leaves_nothing_and_can_be_made_anew() -> None:
    store = MemoryStore()
    first = made(store)
    remove_feature_set(store, first.manifest)
    assert not [key for key in store.objects if "feature-set" in key or "features/" in key]
    with pytest.raises(UnknownName):
        records.load_card(store, "default", "features-1")
    second = made(store, seed=1)
    assert second.card.table != first.manifest.table
    data = b"".join(arrays.npy(store, second.table, "fc7").read())
    assert data.endswith(second.rows["fc7"].tobytes())


@pytest.mark.parametrize("guess", [8, 64, 1 << 14])
def test_an_index_is_read_whatever_the_first_read_holds(
    guess: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_index, "GUESS_BYTES", guess)
    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    store = MemoryStore()
    store.put("s", Shard(rows, np.array([4, 6], np.int64), {5: TORN}).pack())
    index = read_index(store, "s")
    assert (index.kept.tolist(), index.row_shape, index.errors) == ([4, 6], (2, 3), {5: TORN})
    assert store.get_range("s", index.rows_at, rows.nbytes) == rows.tobytes()
    assert store.get_range("s", index.kept_at, 16) == np.array([4, 6], "<i8").tobytes()


def test_a_shard_of_before_digests_gives_the_same_one() -> None:
    shard = Shard(np.ones((2, 3), np.float32), np.array([0, 1], np.int64), {})
    data = shard.pack()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["shard"])
    told = metadata["sha256"]
    header["__metadata__"] = {"errors": json.dumps(metadata["errors"])}
    old = json.dumps(header).encode()
    store = MemoryStore()
    store.put("old", len(old).to_bytes(8, "little") + old + data[8 + size :])
    assert read_index(store, "old").sha256 == told
    assert Shard.unpack(store.get("old")).errors == shard.errors


@pytest.mark.parametrize(
    ("tap", "width", "kept", "why"),
    [("fc7", 7, 9, "do not fit"), ("conv5:pre", 6, 8, "other images")],
)
def test_shards_that_do_not_fit_are_refused(tap: str, width: int, kept: int, why: str) -> None:
    store = MemoryStore()
    one = made(store)
    shard = Shard(np.ones((1, width), np.float32), np.array([kept], np.int64), {17 - kept: TORN})
    store.put(layout.shard(one.dataset.id, one.manifest.fingerprints[tap], 2), shard.pack())
    with pytest.raises(DependencyError, match=why):
        made(store)


def test_equal_shards_have_equal_bytes() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = {Shard(rows, np.array([0, 2], np.int64), {1: TORN}).pack() for _ in range(50)}
    assert len(packed) == 1

"""Rows that other datasets of the owner have already: which they are, and where they stand.

A new version of a dataset shares most images with the one before, and their features stand in
its shards. `find_donors` compares the contents of the items once a job; a shard then takes the
rows it needs from the few shards of others that have them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from offshelf.datasets import records
from offshelf.errors import UnknownName
from offshelf.heads.features import Shard
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from offshelf.engine.interface import Features
    from offshelf.schemas.datasets import Dataset, DatasetItem
    from offshelf.store.interface import Store
    from offshelf.worker.known_datasets import KnownDatasets

# So many other datasets are looked through, the newest first.
MAX_DONORS: Final = 16
DIGEST_BYTES: Final = 16

# The features of items by their number, by tap.
KnownRows = dict[int, dict[str, "Features"]]


@dataclass(frozen=True, slots=True)
class Donors:
    """For item n the row of item `numbers[n]` of the dataset `names[which[n]]`; -1: nobody has it.

    `shard_images` says how each of those datasets is cut into shards.
    """

    names: Sequence[str]
    shard_images: Sequence[int]
    which: NDArray[np.int32]
    numbers: NDArray[np.int64]

    def pack(self) -> bytes:
        """As a compressed npz."""
        file = io.BytesIO()
        about = json.dumps([list(self.names), list(self.shard_images)])
        np.savez_compressed(file, about=np.array(about), which=self.which, numbers=self.numbers)
        return file.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Inverse of `pack`."""
        arrays = np.load(io.BytesIO(data))
        names, shard_images = json.loads(str(arrays["about"]))
        return cls(names, shard_images, arrays["which"], arrays["numbers"])

    def rows(self, store: Store, shelves: Mapping[str, str], items: range) -> KnownRows:
        """The rows of those of `items` that are there under every tap's shelf."""
        wanted: dict[tuple[int, int], list[int]] = defaultdict(list)
        for item in items:
            if (which := int(self.which[item])) >= 0:
                shard = int(self.numbers[item]) // self.shard_images[which]
                wanted[which, shard].append(item)
        rows: KnownRows = {}
        for (which, shard), members in wanted.items():
            places = [(item, int(self.numbers[item])) for item in members]
            rows |= _from_shard(store, self.names[which], shelves, shard, places)
        return rows


def _from_shard(
    store: Store,
    dataset_id: str,
    shelves: Mapping[str, str],
    index: int,
    places: Sequence[tuple[int, int]],
) -> KnownRows:
    """The rows of (item, its number there); none where the shard of a tap is missing."""
    try:
        shards = {
            tap: Shard.unpack(store.get(layout.shard(dataset_id, shelf, index)))
            for tap, shelf in shelves.items()
        }
    except UnknownName:
        return {}
    rows: KnownRows = {}
    for item, number in places:
        found = {tap: _row(shard, number) for tap, shard in shards.items()}
        if all(row is not None for row in found.values()):
            rows[item] = {tap: row for tap, row in found.items() if row is not None}
    return rows


def _row(shard: Shard, number: int) -> Features | None:
    """The row of an item; None for one that failed there."""
    place = int(np.searchsorted(shard.kept, number))
    there = place < len(shard.kept) and shard.kept[place] == number
    return shard.rows[place] if there else None


def find_donors(
    store: Store, datasets: KnownDatasets, dataset: Dataset, shelves: Iterable[str]
) -> Donors | None:
    """Where rows of this dataset's items stand under all shelves; None where there are none."""
    digests = _digests(dataset.items)
    which = np.full(len(digests), -1, np.int32)
    numbers = np.zeros(len(digests), np.int64)
    names: list[str] = []
    shard_images: list[int] = []
    for other in _others(store, datasets, dataset, shelves):
        open_ = np.flatnonzero(which < 0)
        if not len(open_):
            break
        found, places = _matches(digests[open_], _digests(other.items))
        if not found.any():
            continue
        plan = json.loads(store.get(layout.shard_plan(other.id)))
        which[open_[found]] = len(names)
        numbers[open_[found]] = places[found]
        names.append(other.id)
        shard_images.append(int(plan["shard_images"]))
    return Donors(names, shard_images, which, numbers) if names else None


def _others(
    store: Store, datasets: KnownDatasets, dataset: Dataset, shelves: Iterable[str]
) -> Iterable[Dataset]:
    """The other datasets of the owner with features on all shelves, the newest first."""
    folders = [layout.extracted_datasets(dataset.owner, shelf) for shelf in set(shelves)]
    marked = [{key.rpartition("/")[2] for key in store.keys(folder)} for folder in folders]
    born: list[tuple[float, str]] = []
    for name in set.intersection(*marked) - {dataset.id}:
        try:
            born.append((records.load_head(store, dataset.owner, name).created_s, name))
        except UnknownName:
            continue  # the dataset was removed since
    for _, name in sorted(born, reverse=True)[:MAX_DONORS]:
        yield datasets.dataset(dataset.owner, name)


def _digests(items: Iterable[DatasetItem]) -> NDArray[np.bytes_]:
    """What the features of each item depend on, beside the FeatureSpec: its image and boxes."""
    texts = (f"{item.sha256}{item.boxes}".encode() for item in items)
    digests = (hashlib.sha256(one).digest()[:DIGEST_BYTES] for one in texts)
    return np.fromiter(digests, f"S{DIGEST_BYTES}")


def _matches(
    wanted: NDArray[np.bytes_], known: NDArray[np.bytes_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of `wanted` are among `known`, and the place of each there."""
    order = np.argsort(known, kind="stable")
    places = np.searchsorted(known, wanted, sorter=order)
    places = order[np.minimum(places, len(known) - 1)]
    return known[places] == wanted, places

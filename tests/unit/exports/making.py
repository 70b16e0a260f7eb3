"""Feature sets made for tests: shards of known rows, committed as a worker does it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offshelf.exports import records
from offshelf.exports.commit import Extracted, commit
from offshelf.exports.table import Table, load_table
from offshelf.heads.features import Shard
from offshelf.schemas.base import ErrorBody, WeightsBody
from offshelf.schemas.datasets import Dataset, DatasetItem
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from offshelf.schemas.feature_sets import FeatureSet, FeatureSetCard
    from offshelf.store.interface import Store

WEIGHTS = WeightsBody(
    source="random", label="random:0", digest="d" * 64, licence="none", random=True
)
TORN = ErrorBody(code="invalid_image", message="torn")


@dataclass(frozen=True)
class Made:
    """A feature set in a store, and the rows of each tap as one array."""

    store: Store
    dataset: Dataset
    manifest: FeatureSet
    rows: Mapping[str, NDArray[np.float32]]

    @property
    def card(self) -> FeatureSetCard:
        return records.load_card(self.store, "default", self.manifest.id)

    @property
    def table(self) -> Table:
        return load_table(self.store, self.card)


def dataset_of(total: int) -> Dataset:
    """Items of three classes in turn."""
    items = [
        DatasetItem(
            path=f"c{n % 3}/{n:04d}.jpg",
            label=f"c{n % 3}",
            sha256=hashlib.sha256(str(n).encode()).hexdigest(),
            bytes=10 + n,
        )
        for n in range(total)
    ]
    classes = sorted({item.label for item in items})
    return Dataset(
        id=f"ds-{total}", owner="default", name="made", created_s=1.0, classes=classes, items=items
    )


def made(
    store: Store,
    total: int = 10,
    *,
    shard_images: int = 4,
    bad: Sequence[int] = (3, 8),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    name: str = "features-1",
    seed: int = 0,
) -> Made:
    """Write the shards of a dataset of `total` items, `bad` ones without rows, and commit."""
    shapes = {"fc7": (6,), "conv5:pre": (2, 3, 3)} if shapes is None else shapes
    dataset, random = dataset_of(total), np.random.default_rng(seed)
    good = [n for n in range(total) if n not in bad]
    rows = {
        tap: random.normal(size=(len(good), *shape)).astype(np.float32)
        for tap, shape in shapes.items()
    }
    prints = {tap: hashlib.sha256(f"{name}{tap}".encode()).hexdigest() for tap in shapes}
    for index, first in enumerate(range(0, total, shard_images)):
        numbers = range(first, min(first + shard_images, total))
        kept = [n for n in numbers if n not in bad]
        errors = {n: TORN for n in numbers if n in bad}
        for tap in shapes:
            own = rows[tap][[good.index(n) for n in kept]] if kept else np.zeros(0, np.float32)
            shard = Shard(own, np.array(kept, np.int64), errors)
            store.put_new(layout.shard(dataset.id, prints[tap], index), shard.pack())
    extracted = Extracted(
        id=name,
        owner="default",
        specs={tap: {"backbone": "fakenet", "tap": tap} for tap in shapes},
        fingerprints=prints,
        shelves=prints,
        deterministic=False,
        weights=WEIGHTS,
        shard_images=shard_images,
        versions={"offshelf": "0"},
        created_s=2.0,
    )
    return Made(store, dataset, commit(store, extracted, dataset), rows)

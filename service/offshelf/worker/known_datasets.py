"""The datasets that a worker has read of late: every shard of a job needs the same one."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from offshelf.datasets import records

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Description
    from offshelf.schemas.datasets import Dataset
    from offshelf.store.interface import Store

# Each keeps a few pages of its items.
DATASETS_KEPT: Final = 8
DESCRIPTIONS_KEPT: Final = 2


class KnownDatasets:
    """Datasets and descriptions of the store, the latest few kept: they never change."""

    def __init__(self, store: Store) -> None:
        self._load = lru_cache(DATASETS_KEPT)(partial(records.load, store))
        self._described = lru_cache(DESCRIPTIONS_KEPT)(partial(records.load_description, store))

    def dataset(self, owner: str, dataset_id: str) -> Dataset:
        """A dataset with its items; UnknownName when there is none."""
        return self._load(owner, dataset_id)

    def description(self, dataset: Dataset) -> Description | None:
        """What its protocol read of a dataset; None where it has none."""
        if dataset.protocol is None:
            return None
        return self._described(dataset.owner, dataset.id)

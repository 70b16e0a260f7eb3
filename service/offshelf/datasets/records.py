"""The dataset manifests in the store, and the cards that lists are made of."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from offshelf.datasets.protocols.interface import Description
from offshelf.errors import UnknownName
from offshelf.schemas.datasets import Dataset, DatasetBody
from offshelf.store import layout

if TYPE_CHECKING:
    from offshelf.store.interface import Store


def add(store: Store, dataset: Dataset) -> tuple[Dataset, bool]:
    """Commit a dataset, or take the one that has its id already; whether it is new."""
    key = layout.dataset(dataset.owner, dataset.id)
    new = store.put_new(key, dataset.model_dump_json().encode())
    kept = dataset if new else load(store, dataset.owner, dataset.id)
    card = body(kept).model_dump_json().encode()
    store.put_new(layout.dataset_card(kept.owner, kept.id), card)
    return kept, new


def load(store: Store, owner: str, dataset_id: str) -> Dataset:
    """A dataset with its items; UnknownName when there is none."""
    try:
        return Dataset.model_validate_json(store.get(layout.dataset(owner, dataset_id)))
    except UnknownName:
        raise UnknownName(f"no dataset {dataset_id!r}") from None


def load_description(store: Store, owner: str, dataset_id: str) -> Description:
    """What its protocol read of a dataset; UnknownName where there is none."""
    data = store.get(layout.description(owner, dataset_id))
    return Description.model_validate_json(data)


def load_body(store: Store, owner: str, dataset_id: str) -> DatasetBody:
    """A dataset without its items; UnknownName when there is none."""
    if not store.exists(layout.dataset(owner, dataset_id)):
        raise UnknownName(f"no dataset {dataset_id!r}")
    try:
        return DatasetBody.model_validate_json(store.get(layout.dataset_card(owner, dataset_id)))
    except UnknownName:  # the writer died between the manifest and the card
        return body(load(store, owner, dataset_id))


def ids(store: Store, owner: str) -> list[str]:
    """The ids of all datasets, sorted."""
    return [PurePosixPath(key).stem for key in store.keys(layout.datasets(owner))]


def body(dataset: Dataset) -> DatasetBody:
    """The dataset as the API shows it."""
    labels = Counter(item.label for item in dataset.items)
    counts = dataset.protocol.counts if dataset.protocol else labels
    return DatasetBody(
        id=dataset.id,
        name=dataset.name,
        created_s=dataset.created_s,
        classes=dataset.classes,
        counts={label: counts[label] for label in dataset.classes},
        total=len(dataset.items),
        skipped=dataset.skipped,
        protocol=dataset.protocol,
    )

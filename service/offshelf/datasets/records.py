"""The datasets in the store: manifests, pages of items, and the versions that a name has.

A manifest is small, whatever its dataset holds, and is written last: it is the commit. Before it
come the pages of items and the claim of a version number, which a writer that died leaves behind;
who comes with the same content uses them again.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from offshelf.datasets.pages import PAGE_ITEMS, StoredItems, pack, paged, unpack
from offshelf.datasets.protocols.interface import Description
from offshelf.errors import UnknownName
from offshelf.schemas.datasets import Dataset, DatasetHead
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from offshelf.schemas.datasets import DatasetItem
    from offshelf.store.interface import Store

# What ids look like; all else that names a dataset is a name that people gave.
ID: Final = re.compile(r"ds-[0-9a-f]{24}")
MAX_SHOWN: Final = 210
VERSIONED: Final = re.compile(r"(?P<name>.+):(?P<version>[0-9]{1,9})", re.DOTALL)


def add(store: Store, head: DatasetHead, items: Iterable[DatasetItem]) -> tuple[DatasetHead, bool]:
    """Commit a dataset, or take the one that has its id already; whether it is new.

    `items` are in their final order and gone through once. The version is the next of the name.
    Of one that is there already the files that were left out are told as they are this time.
    """
    key = layout.dataset(head.owner, head.id)
    if store.exists(key):
        return _known(store, head), False
    for number, page in enumerate(paged(items)):
        store.put_new(layout.dataset_page(head.owner, head.id, PAGE_ITEMS, number), pack(page))
    version = _claim(store, head)
    whole = head.model_copy(update={"version": version, "page_items": PAGE_ITEMS})
    if store.put_new(key, whole.model_dump_json().encode()):
        return whole, True
    return _known(store, head), False


def _known(store: Store, head: DatasetHead) -> DatasetHead:
    left_out = {"skipped": head.skipped, "skipped_total": head.skipped_total}
    return load_head(store, head.owner, head.id).model_copy(update=left_out)


def load(store: Store, owner: str, dataset_id: str) -> Dataset:
    """A dataset whose items are read as they are asked for; UnknownName when there is none."""
    head = load_head(store, owner, dataset_id)
    read = partial(_page, store, head)
    return Dataset(
        id=head.id,
        owner=head.owner,
        name=head.name,
        created_s=head.created_s,
        classes=head.classes,
        items=StoredItems(read, head.total, head.page_items),
        protocol=head.protocol,
    )


def load_description(store: Store, owner: str, dataset_id: str) -> Description:
    """What its protocol read of a dataset; UnknownName where there is none."""
    data = store.get(layout.description(owner, dataset_id))
    return Description.model_validate_json(data)


def load_head(store: Store, owner: str, dataset_id: str) -> DatasetHead:
    """The manifest of a dataset; UnknownName when there is none."""
    try:
        data = store.get(layout.dataset(owner, dataset_id))
    except UnknownName:
        raise UnknownName(f"no dataset {dataset_id!r}") from None
    return DatasetHead.model_validate_json(data)


def find(store: Store, owner: str, reference: str) -> DatasetHead:
    """A dataset by its id, by `name:version`, or the newest of a name; UnknownName for none."""
    if ID.fullmatch(reference):
        return load_head(store, owner, reference)
    newest = next(versions(store, owner, reference), None)
    if newest is None and (parts := VERSIONED.fullmatch(reference)):
        wanted = int(parts["version"])
        known = versions(store, owner, parts["name"])
        newest = next((head for head in known if head.version == wanted), None)
    if newest is None:
        raise UnknownName(f"no dataset {reference[:MAX_SHOWN]!r}")
    return newest


def versions(store: Store, owner: str, name: str) -> Iterator[DatasetHead]:
    """The datasets of a name, newest version first; those that were deleted are left out."""
    claims = list(store.keys(layout.dataset_versions(owner, _folder(name))))
    for key in reversed(claims):
        try:
            yield load_head(store, owner, store.get(key).decode())
        except UnknownName:
            continue


def ids(store: Store, owner: str) -> list[str]:
    """The ids of all datasets, sorted."""
    return [PurePosixPath(key).stem for key in store.keys(layout.datasets(owner))]


def delete(store: Store, owner: str, dataset_id: str) -> None:
    """Remove a dataset: the manifest first, then its items and what its protocol read.

    Its version number stays taken, so that `name:2` is never two things. Images stay: they are
    stored by content, and other datasets may hold them.
    """
    store.delete(layout.dataset(owner, dataset_id))
    for key in list(store.keys(layout.dataset_pages(owner, dataset_id))):
        store.delete(key)
    store.delete(layout.description(owner, dataset_id))


def _page(store: Store, head: DatasetHead, number: int) -> list[DatasetItem]:
    return unpack(store.get(layout.dataset_page(head.owner, head.id, head.page_items, number)))


def _claim(store: Store, head: DatasetHead) -> int:
    """The version number of a dataset: the one it took before, or the next that is free."""
    folder = layout.dataset_versions(head.owner, _folder(head.name))
    while True:
        keys = list(store.keys(folder))
        for key in keys:
            if store.get(key).decode() == head.id:
                return int(PurePosixPath(key).name)
        version = int(PurePosixPath(keys[-1]).name) + 1 if keys else 1
        key = layout.dataset_version(head.owner, _folder(head.name), version)
        if store.put_new(key, head.id.encode()):
            return version


def _folder(name: str) -> str:
    """A name as a part of a key: it may hold anything."""
    return hashlib.sha256(name.encode()).hexdigest()[:40]

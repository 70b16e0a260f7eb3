"""Where the bytes of a feature set are: what serves any range of it without reading the rest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from offshelf.errors import UnknownName
from offshelf.schemas.base import Strict
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from offshelf.schemas.feature_sets import FeatureSetCard
    from offshelf.store.interface import Store

ITEMS: Final = "items.jsonl"


class TapTable(Strict):
    """The rows of a tap: the shape of one, a digest of all, where they begin in each shard.

    `shelf` is where the shards stand in the store, under their dataset.
    """

    shelf: str
    row_shape: list[int]
    digest: str
    rows_at: list[int]


class Table(Strict):
    """The parts of a feature set.

    `rows` counts those of each shard. `kept_at` is where the item numbers begin in each shard of
    the shelf `kept_in`. `items_at` has the place of each shard's first line in the file of
    items, and the file's end. The digests are sha256 of all items, item numbers and labels.
    """

    dataset: str
    total: int
    shard_images: int
    rows: list[int]
    taps: dict[str, TapTable]
    kept_in: str
    kept_at: list[int]
    items_at: list[int]
    items_digest: str
    kept_digest: str
    labels_digest: str


def table_name(digest: str) -> str:
    """The part of a feature set that is its table. Parts are named by what is in them.

    So those of a set that was deleted are never taken for those of one made anew.
    """
    return f"table-{digest}.json"


def items_name(digest: str) -> str:
    """The part of a feature set that has its items, a line of JSON each."""
    return f"items-{digest}.jsonl"


def labels_name(digest: str) -> str:
    """The part of a feature set that has the class of every row."""
    return f"labels-{digest}.bin"


def put_table(store: Store, owner: str, feature_set_id: str, table: Table) -> str:
    """Write a table; its digest."""
    data = table.model_dump_json().encode()
    digest = hashlib.sha256(data).hexdigest()
    store.put_new(layout.feature_set_part(owner, feature_set_id, table_name(digest)), data)
    return digest


def load_table(store: Store, card: FeatureSetCard) -> Table:
    """The table of a feature set; UnknownName for a set of an earlier version, without one."""
    if not card.table:
        raise UnknownName(
            f"feature set {card.id!r} has no files: an earlier version made it; delete it, and "
            "ask for the same features again"
        )
    key = layout.feature_set_part(card.owner, card.id, table_name(card.table))
    return Table.model_validate_json(store.get(key))


def digest_of(parts: Iterable[str]) -> str:
    """One sha256 of many texts in their order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part};".encode())
    return digest.hexdigest()

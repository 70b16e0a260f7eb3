"""Where the bytes of a feature set are: what serves any range of it without reading the rest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from offshelf.errors import UnknownName
from offshelf.schemas.base import Strict
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from offshelf.store.interface import Store

TABLE: Final = "table.json"
ITEMS: Final = "items.jsonl"
LABELS: Final = "labels.bin"


class TapTable(Strict):
    """The rows of a tap: the shape of one, a digest of all, where they begin in each shard."""

    fingerprint: str
    row_shape: list[int]
    digest: str
    rows_at: list[int]


class Table(Strict):
    """The parts of a feature set.

    `rows` counts those of each shard. `kept_at` is where the item numbers begin in each shard of
    the fingerprint `kept_in`. `items_at` has the place of each shard's first line in the file of
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


def load_table(store: Store, owner: str, feature_set_id: str) -> Table:
    """The table of a feature set that is there; UnknownName for one of an earlier version."""
    try:
        data = store.get(layout.feature_set_part(owner, feature_set_id, TABLE))
    except UnknownName:
        raise UnknownName(
            f"feature set {feature_set_id!r} has no files: it was made by an earlier version; "
            "ask for the same features again"
        ) from None
    return Table.model_validate_json(data)


def digest_of(parts: Iterable[str]) -> str:
    """One sha256 of many texts in their order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part};".encode())
    return digest.hexdigest()

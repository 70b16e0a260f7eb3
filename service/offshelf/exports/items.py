"""The items of a feature set, some at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.exports.table import Table, items_name
from offshelf.schemas.feature_sets import FeatureSetItem
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.schemas.feature_sets import FeatureSetCard
    from offshelf.store.interface import Store


def read_items(
    store: Store, table: Table, card: FeatureSetCard, first: int, count: int
) -> Sequence[FeatureSetItem]:
    """Up to `count` items from number `first` on; only the shards that hold them are read."""
    stop = min(first + count, table.total)
    if first >= stop:
        return []
    shard, last = first // table.shard_images, (stop - 1) // table.shard_images
    start = table.items_at[shard]
    key = layout.feature_set_part(card.owner, card.id, items_name(table.items_digest))
    lines = store.get_range(key, start, table.items_at[last + 1] - start).splitlines()
    before = shard * table.shard_images
    return [
        FeatureSetItem.model_validate_json(line) for line in lines[first - before : stop - before]
    ]

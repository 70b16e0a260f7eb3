"""Taking a feature set out of the store, and of its shards those that nobody else has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.store import layout

if TYPE_CHECKING:
    from offshelf.schemas.feature_sets import FeatureSet, FeatureSetCard
    from offshelf.store.interface import Store


def remove_feature_set(store: Store, features: FeatureSet | FeatureSetCard) -> None:
    """The manifest goes first, as it is what makes the set.

    Shards stay while a mark says that another set has them. Those that stay because this breaks
    off are found by the next job on the same features.
    """
    # The card first: a list makes the card of a set that has none, but would show a stale one.
    store.delete(layout.feature_set_card(features.owner, features.id))
    store.delete(layout.feature_set(features.owner, features.id))
    for key in list(store.keys(layout.feature_set_parts(features.owner, features.id))):
        store.delete(key)
    for shelf in sorted({features.shelf(tap) for tap in features.fingerprints}):
        store.delete(layout.use(features.dataset, shelf, features.owner, features.id))
        if any(store.keys(layout.uses(features.dataset, shelf))):
            continue
        store.delete(layout.extracted(features.owner, shelf, features.dataset))
        for key in list(store.keys(layout.shards(features.dataset, shelf))):
            store.delete(key)

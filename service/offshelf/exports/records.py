"""The manifests of feature sets in the store, and the cards that lists are made of."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from offshelf.errors import UnknownName
from offshelf.heads.features import load_feature_set
from offshelf.schemas.feature_sets import FeatureSet, FeatureSetCard
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from offshelf.store.interface import Store


def add(store: Store, made: FeatureSet) -> FeatureSet:
    """Commit a feature set, or take the one that has its id already; then its card."""
    key = layout.feature_set(made.owner, made.id)
    new = store.put_new(key, made.model_dump_json().encode())
    kept = made if new else load_feature_set(store, made.owner, made.id)
    card = kept.card.model_dump_json().encode()
    store.put_new(layout.feature_set_card(kept.owner, kept.id), card)
    return kept


def load_card(store: Store, owner: str, feature_set_id: str) -> FeatureSetCard:
    """A feature set without what it has for every image; UnknownName when there is none."""
    if not store.exists(layout.feature_set(owner, feature_set_id)):
        raise UnknownName(f"no feature set {feature_set_id!r}")
    try:
        data = store.get(layout.feature_set_card(owner, feature_set_id))
    except UnknownName:  # the writer died between the manifest and the card
        return load_feature_set(store, owner, feature_set_id).card
    return FeatureSetCard.model_validate_json(data)


def cards(store: Store, owner: str, names: Iterable[str]) -> Iterator[FeatureSetCard]:
    """Those of the sets of these ids; one that is deleted meanwhile is left out."""
    for name in names:
        try:
            card = load_card(store, owner, name)
        except UnknownName:
            continue
        yield card


def ids(store: Store, owner: str) -> list[str]:
    """The ids of all feature sets, sorted."""
    return [PurePosixPath(key).stem for key in store.keys(layout.feature_sets(owner))]

"""Lists of heads, by id, with the tags that stand at each now."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from offshelf.errors import UnknownName
from offshelf.heads import model, names, tags
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offshelf.schemas.heads import Head
    from offshelf.store.interface import Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which heads to list: those that are all of what is given."""

    name: str | None = None
    dataset: str | None = None
    kind: str | None = None
    tag: str | None = None


def page(
    store: Store, owner: str, wanted: Wanted, after: str | None, limit: int
) -> tuple[list[Head], bool]:
    """Up to `limit` heads from the one after the id `after`, and whether there are more.

    A name or a tag says by itself which heads to look at; else all cards are read until the
    page is full.
    """
    standing = tags.all_of(store, owner)
    ids = _candidates(store, owner, wanted, standing)
    start = 0 if after is None else bisect_right(ids, after)
    found: list[Head] = []
    for card in _cards(store, owner, ids[start:]):
        if _fits(card, wanted):
            if len(found) == limit:
                return found, True
            found.append(_with(card, [tag for (_, tag), at in standing.items() if at == card.id]))
    return found, False


def tagged(store: Store, card: Head) -> Head:
    """A card with the tags that stand at it."""
    standing = tags.of_name(store, card.owner, card.name)
    return _with(card, [tag for tag, at in standing.items() if at == card.id])


def _candidates(
    store: Store, owner: str, wanted: Wanted, standing: dict[tuple[str, str], str]
) -> Sequence[str]:
    """The ids of heads that may be wanted, sorted."""
    if wanted.tag is not None:
        return sorted({at for (_, tag), at in standing.items() if tag == wanted.tag})
    if wanted.name:
        return sorted(set(names.heads_of(store, owner, wanted.name)))
    keys = (PurePosixPath(key) for key in store.keys(layout.heads(owner)))
    return [key.parent.name for key in keys if key.name == "card.json"]


def _cards(store: Store, owner: str, ids: Sequence[str]) -> Iterator[Head]:
    """The heads of these ids; one that was deleted meanwhile is left out."""
    for head_id in ids:
        with suppress(UnknownName):
            yield model.load_card(store, owner, head_id)


def _fits(card: Head, wanted: Wanted) -> bool:
    pairs = ((wanted.name, card.name), (wanted.dataset, card.dataset), (wanted.kind, card.kind))
    return all(asked is None or asked == has for asked, has in pairs)


def _with(card: Head, standing: list[str]) -> Head:
    return card.model_copy(update={"tags": sorted(standing)})

"""Which weights are on this machine, where, and under which terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offshelf.backbones.records import recorded
from offshelf.backbones.weights import locate, provenance
from offshelf.errors import WeightsMissing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offshelf.backbones.catalogue import Catalogue
    from offshelf.backbones.interface import Card
    from offshelf.backbones.weights import Source
    from offshelf.settings import Settings


@dataclass(frozen=True, slots=True)
class Held:
    """The weights of a backbone as they are here; `path` is None where they are not.

    `sha256` is the one on record. `problem` says why a card file or a record is bad.
    """

    backbone: str
    weights: str
    licence: str
    source: Source | None = None
    path: Path | None = None
    bytes: int | None = None
    sha256: str | None = None
    problem: str = ""


def inventory(catalogue: Catalogue, settings: Settings) -> list[Held]:
    """All weights that can be named, here or not, and the card files that are bad."""
    cards = [variant for card in catalogue.cards() for variant in variants(card)]
    bad = [Held(name, "", "", problem=str(why)) for name, why in catalogue.bad_cards().items()]
    return sorted([*(held(card, settings) for card in cards), *bad], key=lambda h: h.backbone)


def variants(card: Card) -> Iterator[Card]:
    """A card, and those of the other weights that are published for its network."""
    yield card
    yield from card.others.values()


def held(card: Card, settings: Settings) -> Held:
    """The weights of one card."""
    place = locate(card, settings)
    if place is None:
        return Held(card.name, card.weights.name, card.weights.licence)
    label, licence = provenance(card, place)
    sha256, problem = None, ""
    try:
        sha256 = recorded(place.path)
    except WeightsMissing as error:
        problem = str(error)
    size = place.path.stat().st_size
    return Held(card.name, label, licence, place.source, place.path, size, sha256, problem)

"""The backbones of this worker as it publishes them: cards, and the weights that are here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from offshelf.backbones.weights import provenance
from offshelf.schemas.backbones import BackboneBody, TapBody, VariantBody

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offshelf.backbones.interface import Card, Tap
    from offshelf.backbones.weights import Location


def describe(
    cards: Sequence[Card],
    locate: Callable[[Card], Location | None],
    default: str,
) -> list[BackboneBody]:
    """One body a card. `locate` finds the weights' file on this machine, if it is there."""
    return [_body(card, locate, card.name == default) for card in cards]


def _body(card: Card, locate: Callable[[Card], Location | None], default: bool) -> BackboneBody:
    places = {card.weights.name: locate(card)}
    places |= {name: locate(other) for name, other in card.others.items()}
    return BackboneBody(
        name=card.name,
        taps=[_tap(tap) for tap in card.taps],
        aliases={name: alias.tap for name, alias in card.aliases.items()},
        preprocessing=asdict(card.preprocessing),
        classes=card.classes,
        class_names=list(card.class_names),
        paper=card.paper,
        weights=_weights(card, places[card.weights.name]),
        variants=[_variant(card.with_weights(name), place) for name, place in places.items()],
        nbytes=card.nbytes,
        default=default,
    )


def _tap(tap: Tap) -> TapBody:
    return TapBody(
        name=tap.name,
        shape=list(tap.shape),
        stride=tap.stride,
        receptive_field=tap.receptive_field,
        pre=tap.pre,
        kind=tap.kind,
        offset=tap.offset,
    )


def _variant(card: Card, place: Location | None) -> VariantBody:
    return VariantBody(
        name=card.weights.name,
        top1=card.weights.top1,
        licence=card.weights.licence,
        preprocessing=asdict(card.preprocessing),
        present=place is not None,
    )


def _weights(card: Card, place: Location | None) -> dict[str, Any]:
    """What is true of the file that is here; of the published one where there is none.

    Paths of this machine are nobody else's business.
    """
    told = asdict(card.weights)
    for name in ("packaged", "file", "absence"):
        del told[name]
    if place is None:
        return {**told, "present": False, "source": None}
    name, licence = provenance(card, place)
    if name != card.weights.name or card.brought:
        # A file that the operator brought: nothing that was published is known to hold for it.
        told = dict.fromkeys(told)
    return {**told, "name": name, "licence": licence, "present": True, "source": place.source}

"""The backbones of this worker as it publishes them: cards, weights, and what is loaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from offshelf.backbones.weights import provenance
from offshelf.schemas import BackboneBody, TapBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from offshelf.backbones.interface import Card
    from offshelf.backbones.weights import Location
    from offshelf.engine.interface import Resident


def describe(
    cards: Sequence[Card],
    locate: Callable[[Card], Location | None],
    residents: Iterable[Resident],
    default: str,
) -> list[BackboneBody]:
    """One body a card. `locate` finds the weights' file on this machine, if it is there."""
    loaded: dict[str, list[str]] = {}
    for resident in residents:
        loaded.setdefault(resident.card.name, []).append(resident.weights.label)
    return [
        _body(card, locate(card), sorted(loaded.get(card.name, [])), card.name == default)
        for card in cards
    ]


def _body(card: Card, place: Location | None, resident: list[str], default: bool) -> BackboneBody:
    taps = [
        TapBody(
            name=tap.name,
            shape=list(tap.shape),
            stride=tap.stride,
            receptive_field=tap.receptive_field,
            pre=tap.pre,
        )
        for tap in card.taps
    ]
    return BackboneBody(
        name=card.name,
        taps=taps,
        aliases={name: alias.tap for name, alias in card.aliases.items()},
        preprocessing=asdict(card.preprocessing),
        classes=card.classes,
        class_names=list(card.class_names),
        paper=card.paper,
        weights=_weights(card, place),
        default=default,
        resident=resident,
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

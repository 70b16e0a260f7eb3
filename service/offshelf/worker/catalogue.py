"""The backbones of this worker as it publishes them: cards, weights, and what is loaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

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
    weights = {
        **asdict(card.weights),
        "present": place is not None,
        "source": place.source if place is not None else None,
    }
    return BackboneBody(
        name=card.name,
        taps=taps,
        aliases={name: alias.tap for name, alias in card.aliases.items()},
        preprocessing=asdict(card.preprocessing),
        classes=card.classes,
        paper=card.paper,
        weights=weights,
        default=default,
        resident=resident,
    )

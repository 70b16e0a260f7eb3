"""How fast a job goes: images a second over the spells in which somebody worked on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of the latest shards so many count.
SPELLS_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Spell:
    """Work on one shard: it ended at `end_s` (Unix time), took `took_s`, computed `images`."""

    end_s: float
    took_s: float
    images: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Inverse of `str`."""
        end_s, took_s, images = text.split()
        return cls(float(end_s), float(took_s), int(images))

    def __str__(self) -> str:
        return f"{self.end_s:.3f} {self.took_s:.3f} {self.images}"


def images_per_s(spells: Iterable[Spell]) -> float | None:
    """Images over the length of the union of the spells; None while nothing was computed.

    The union counts shards that run side by side once, and a pause, in which nobody works, not
    at all. Shards that were there already are no spells.
    """
    worked = sorted((one for one in spells if one.images), key=lambda one: one.end_s - one.took_s)
    busy_s, until_s = 0.0, float("-inf")
    for one in worked:
        busy_s += max(0.0, one.end_s - max(until_s, one.end_s - one.took_s))
        until_s = max(until_s, one.end_s)
    return sum(one.images for one in worked) / busy_s if busy_s > 0 else None


def left_s(total: int, ended: int, rate: float | None) -> float | None:
    """How long the rest takes at this rate; None where nobody can tell."""
    return (total - ended) / rate if rate and total else None

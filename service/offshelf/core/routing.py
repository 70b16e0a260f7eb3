"""Which list of requests an image goes to, and which lists a worker takes from: pure functions.

There is a list a backbone. A worker takes from those of the backbones that it can load, and leaves
to others what they have on their device and it has not, until too much waits there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# The list of what no worker can load: whichever takes it says what is wrong.
ANY: Final = "-"


@dataclass(frozen=True, slots=True)
class Station:
    """What a worker tells of itself for routing.

    `serves`: backbones whose weights it has or can fetch; `holds`: those whose weights are in its
    files; `resident`: those on its device, or on their way there; `default`: the one that a
    request without a name means; `images_per_s`: its measured rate, 0 while there is none.
    """

    default: str
    serves: frozenset[str]
    holds: frozenset[str] = frozenset()
    resident: frozenset[str] = frozenset()
    images_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Takes:
    """Routes of a worker: `own` to wait on, `foreign` to help with where much waits."""

    own: tuple[str, ...]
    foreign: tuple[str, ...] = ()


def route(backbone: object, stations: Iterable[Station]) -> str:
    """The route of a request that names this backbone, or none."""
    for station in stations:
        name = backbone or station.default
        if name in station.serves:
            return str(name)
    return ANY


def held_by_any(backbone: str | None, stations: Iterable[Station]) -> bool:
    """Whether one of these has the weights of a backbone, or of its own default for None."""
    return any((backbone or station.default) in station.holds for station in stations)


def takes(mine: Station, others: Iterable[Station]) -> Takes:
    """What a worker takes, given what the other live ones hold."""
    elsewhere = frozenset[str]().union(*(other.resident for other in others))
    foreign = (elsewhere - mine.resident) & mine.serves
    return Takes((ANY, *sorted(mine.serves - foreign)), tuple(sorted(foreign)))

"""Which list of requests an image goes to, and which lists a worker takes from: pure functions.

There is a list a backbone, and one for each other set of weights that is published for it. A worker
takes from those that it can load, and leaves to others what they have on their device and it has
not, until too much waits there.
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

    `serves`: routes whose weights it has or can fetch; `holds`: those whose weights are in its
    files; `resident`: those on its device, or on their way there; `default`: the backbone that a
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


def route_of(backbone: str, weights: object) -> str:
    """The route of these weights; random ones need no file, and go where the own ones do."""
    if not isinstance(weights, str) or weights.startswith("random:"):
        return backbone
    return f"{backbone}@{weights}"


def route(backbone: object, weights: object, stations: Iterable[Station]) -> str:
    """The route of a request that names this backbone, or none, and these weights, or none."""
    for station in stations:
        name = route_of(str(backbone or station.default), weights)
        if name in station.serves:
            return name
    return ANY


def takes(mine: Station, others: Iterable[Station]) -> Takes:
    """What a worker takes, given what the other live ones hold."""
    elsewhere = frozenset[str]().union(*(other.resident for other in others))
    foreign = (elsewhere - mine.resident) & mine.serves
    return Takes((ANY, *sorted(mine.serves - foreign)), tuple(sorted(foreign)))

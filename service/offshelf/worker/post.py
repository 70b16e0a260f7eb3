"""This worker's post in the queue: what it tells of itself, and which requests it takes."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.routing import Station, Takes, route_of, takes
from offshelf.errors import DependencyError
from offshelf.schemas.backbones import ResidentBody

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from offshelf.engine.residency import Residency
    from offshelf.schemas.backbones import BackboneBody

log = logging.getLogger(__name__)

# Files of weights come and go seldom, and looking for all of them takes a while.
CATALOGUE_BEATS: Final = 5
# How long a heartbeat waits for that.
LOOK_S: Final = 1.0
# For so long it is believed that weights which could not be had cannot be had.
LACKS_S: Final = 60.0


class Post:
    """Kept up to date by the heartbeat, read by the intake; no method raises.

    `describe` lists the backbones, `others` the stations of all live workers by id; `fetches`
    says whether weights that are not here may be downloaded.
    """

    def __init__(
        self,
        worker_id: str,
        default_backbone: str,
        residency: Residency,
        describe: Callable[[], list[BackboneBody]],
        others: Callable[[], Mapping[str, Station]],
        *,
        fetches: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._id = worker_id
        self._residency = residency
        self._describe = describe
        self._others = others
        self._fetches = fetches
        self._clock = clock
        self._beats = 0
        self._looking = threading.Thread()
        self._lacking: dict[str, float] = {}
        self._elsewhere: Sequence[Station] = ()
        self.catalogue: list[BackboneBody] = []
        self.station = Station(default_backbone, frozenset())

    def look(self) -> None:
        """See which weights are here, and what the other workers hold."""
        due = self._beats % CATALOGUE_BEATS == 0 or self._unlisted()
        if due and not self._looking.is_alive():
            # A file is hashed when it is new, which may take longer than a heartbeat may.
            self._looking = threading.Thread(target=self._look, name="catalogue", daemon=True)
            self._looking.start()
            self._looking.join(LOOK_S)
        self._beats += 1
        try:
            stations = self._others()
        except DependencyError as error:
            log.warning("it is not known what the other workers hold: %s", error)
            return
        self._elsewhere = [one for name, one in stations.items() if name != self._id]

    def _look(self) -> None:
        try:
            catalogue = self._describe()
        except Exception:  # what was known stays, and the next look is due soon
            log.exception("the backbones of this worker could not be listed")
            return
        self.station = replace(
            self.station,
            serves=_routes(catalogue, self._fetches),
            holds=_routes(catalogue, fetches=False),
        )
        self.catalogue = catalogue

    def _unlisted(self) -> bool:
        """Whether something is loaded that can only be listed because it is: timm's, for one."""
        listed = {body.name for body in self.catalogue}
        return any(name not in listed for name, _ in self._residency.loaded())

    def told(self, images_per_s: float) -> Station:
        """What to tell of ourselves now."""
        return replace(self._now(), images_per_s=images_per_s)

    def takes(self, crowded: Sequence[tuple[Any, Any]] = ()) -> Takes:
        """The routes to take requests from, but for those of `crowded` (backbone, weights)."""
        now = self._now()
        full = {route_of(str(name or now.default), weights) for name, weights in crowded}
        return takes(replace(now, serves=now.serves - full), self._elsewhere)

    def lacks(self, backbone: str | None, weights: str | None) -> str | None:
        """Note that weights are not to be had here; the route of who has them, or None."""
        name = self._route(backbone, weights)
        self._lacking[name] = self._clock() + LACKS_S
        return name if self._is_elsewhere(name) else None

    def is_elsewhere_alone(self, backbone: str | None, weights: str | None) -> bool:
        """Whether they could not be had here a moment ago, and another worker has them."""
        name = self._route(backbone, weights)
        return name in self._lacking_now() and self._is_elsewhere(name)

    def knows(self, backbone: str | None) -> bool:
        """Whether this worker has a card of that name, whatever it has of the weights."""
        name = backbone or self.station.default
        return any(body.name == name for body in self.catalogue)

    def _route(self, backbone: str | None, weights: str | None) -> str:
        return route_of(backbone or self.station.default, weights)

    def _is_elsewhere(self, name: str) -> bool:
        """Whether another live worker has what goes by this route in its files."""
        return any(name in station.holds for station in self._elsewhere)

    def residents(self) -> list[ResidentBody]:
        """What is on the device, or on its way there."""
        there = [
            ResidentBody(backbone=name, weights=one.weights.label, bytes=one.nbytes)
            for (name, _), one in self._residency.loaded().items()
        ]
        coming = [
            ResidentBody(backbone=name, weights=weights or "", state="loading")
            for name, weights in self._residency.coming()
        ]
        return there + coming

    def _now(self) -> Station:
        known, lacking = self.station, self._lacking_now()
        return replace(
            known,
            serves=known.serves - lacking,
            holds=known.holds - lacking,
            resident=self._here() - lacking,
        )

    def _lacking_now(self) -> frozenset[str]:
        now_s = self._clock()
        return frozenset(name for name, until_s in dict(self._lacking).items() if until_s > now_s)

    def _here(self) -> frozenset[str]:
        """The routes of what is on the device; random weights attract nothing."""
        keys = [*self._residency.loaded(), *self._residency.coming()]
        names = {route_of(*key) for key in keys if not (key[1] or "").startswith("random:")}
        pinned = {body.name: _pinned(body) for body in self.catalogue}
        return frozenset(names | {pinned[name] for name in names if name in pinned})


def _routes(catalogue: Sequence[BackboneBody], fetches: bool) -> frozenset[str]:
    """The routes whose weights are here, and with `fetches` those whose can be fetched."""
    found: set[str] = set()
    for body in catalogue:
        if body.weights["present"] or (fetches and body.weights["url"]):
            found |= {body.name, _pinned(body)}
        found |= {
            route_of(body.name, other.name)
            for other in body.variants[1:]
            if other.present or fetches
        }
    return frozenset(found)


def _pinned(body: BackboneBody) -> str:
    """The route of a backbone's own weights where they are asked for by name."""
    return route_of(body.name, body.variants[0].name if body.variants else None)

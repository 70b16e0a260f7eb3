"""This worker's post in the queue: what it tells of itself, and which requests it takes."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from offshelf.core.routing import Station, Takes, held_by_any, takes
from offshelf.errors import DependencyError
from offshelf.schemas import ResidentBody

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from offshelf.engine.residency import Residency
    from offshelf.schemas import BackboneBody

log = logging.getLogger(__name__)

# Files of weights come and go seldom, and looking for all of them takes a while.
CATALOGUE_BEATS: Final = 5
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
        self._lacking: dict[str, float] = {}
        self._elsewhere: Sequence[Station] = ()
        self.catalogue: list[BackboneBody] = []
        self.station = Station(default_backbone, frozenset())

    def look(self) -> None:
        """See which weights are here, and what the other workers hold."""
        if self._beats % CATALOGUE_BEATS == 0 or self._unlisted():
            self.catalogue = self._describe()
            self.station = replace(
                self.station,
                serves=_serves(self.catalogue, self._fetches),
                holds=_serves(self.catalogue, fetches=False),
            )
        self._beats += 1
        try:
            stations = self._others()
        except DependencyError as error:
            log.warning("it is not known what the other workers hold: %s", error)
            return
        self._elsewhere = [one for name, one in stations.items() if name != self._id]

    def _unlisted(self) -> bool:
        """Whether something is loaded that can only be listed because it is: timm's, for one."""
        listed = {body.name for body in self.catalogue}
        return any(name not in listed for name, _ in self._residency.loaded())

    def told(self, images_per_s: float) -> Station:
        """What to tell of ourselves now."""
        return replace(self._now(), images_per_s=images_per_s)

    def takes(self) -> Takes:
        """The routes to take requests from."""
        return takes(self._now(), self._elsewhere)

    def lacks(self, backbone: str | None) -> str | None:
        """Note that the weights are not to be had here; the route of who has them, or None."""
        name = backbone or self.station.default
        self._lacking[name] = self._clock() + LACKS_S
        return name if self.elsewhere(name) else None

    def elsewhere(self, backbone: str | None) -> bool:
        """Whether another live worker has the weights of a backbone in its files."""
        return held_by_any(backbone, self._elsewhere)

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
        now_s, known = self._clock(), self.station
        lacking = {name for name, until_s in dict(self._lacking).items() if until_s > now_s}
        return replace(known, serves=known.serves - lacking, resident=self._here())

    def _here(self) -> frozenset[str]:
        keys = [*self._residency.loaded(), *self._residency.coming()]
        return frozenset(name for name, _ in keys)


def _serves(catalogue: Sequence[BackboneBody], fetches: bool) -> frozenset[str]:
    """The backbones whose weights are here, and with `fetches` those that can be fetched."""
    return frozenset(
        body.name
        for body in catalogue
        if body.weights["present"] or (fetches and body.weights["url"])
    )

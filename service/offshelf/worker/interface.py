"""What the worker asks of the engine's side: resolve names, then take images one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from offshelf.core.batching import Lane
    from offshelf.core.boxes import Box
    from offshelf.core.routing import Takes
    from offshelf.engine.company import Company
    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features
    from offshelf.engine.windowing import Boxed, Windows
    from offshelf.schemas.features import FeatureParams


class Duty(Protocol):
    """What this worker is to take; `worker.post.Post` is the real one."""

    def takes(self, crowded: Sequence[tuple[Any, Any]] = ()) -> Takes:
        """The routes to take requests from, now; not those of `crowded` (backbone, weights)."""
        ...

    def lacks(self, backbone: str | None, weights: str | None) -> str | None:
        """Note that weights are not to be had here.

        Returns the route on which another live worker waits that has them, or None.
        """
        ...

    def is_elsewhere_alone(self, backbone: str | None, weights: str | None) -> bool:
        """Whether they could not be had here a moment ago, and another worker has them."""
        ...

    def knows(self, backbone: str | None) -> bool:
        """Whether this worker has a card of that name, whatever it has of the weights."""
        ...


class Extractor(Protocol):
    """Turns images into features; `engine.extractor.Extractor` is the real one."""

    def resolve(self, params: FeatureParams) -> Plan:
        """Load what is named; blocks. Raises RequestError or WeightsMissing.

        The plan is to be used in a `with`: the backbone may leave the device after it.
        """
        ...

    def resolve_loaded(self, params: FeatureParams) -> Plan | None:
        """`resolve` if the backbone is on the device now; never waits."""
        ...

    @property
    def budget(self) -> int:
        """The bytes that weights may take on the device."""
        ...

    def submit(
        self,
        image: bytes | Callable[[], bytes],
        plan: Plan,
        lane: Lane,
        deadline_s: float | None = None,
        box: Box | None = None,
        company: Company | None = None,
    ) -> Future[dict[str, Features]]:
        """Take an image; the features come by tap name. Cancelling it before it runs drops it.

        One that is a function is read when its turn comes; what that raises, the future raises.
        With a `box` that part of it is the image. `deadline_s` is Unix time. Images of a `company`
        run in one batch, in the order in which they came here, and nobody else with them.
        """
        ...

    def submit_windows(
        self,
        image: bytes,
        plan: Plan,
        lane: Lane,
        windows: Windows,
        deadline_s: float | None = None,
    ) -> Future[Boxed]:
        """Take the boxes of an image; otherwise as `submit`."""
        ...

    def canaries(self, timeout_s: float) -> None:
        """Run a known image through all that is loaded; WorkerError unless all is well."""
        ...

    def close(self, timeout_s: float) -> None:
        """Finish what was taken, then stop."""
        ...

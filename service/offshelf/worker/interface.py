"""What the worker asks of the engine's side: resolve names, then take images one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

    from offshelf.core.batching import Lane
    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features, Resident
    from offshelf.schemas import FeatureParams


class Extractor(Protocol):
    """Turns images into features; `engine.extractor.Extractor` is the real one."""

    def resolve(self, params: FeatureParams) -> Plan:
        """Load what is named; blocks. Raises RequestError or WeightsMissing."""
        ...

    def is_loaded(self, backbone: str | None, weights: str | None) -> bool:
        """Whether `resolve` would find this backbone on the device, and so not wait."""
        ...

    def submit(
        self, image: bytes, plan: Plan, lane: Lane, deadline_s: float | None = None
    ) -> Future[dict[str, Features]]:
        """Take an image; the features come by tap name. Cancelling it before it runs drops it.

        `deadline_s` is Unix time.
        """
        ...

    def canary(self, resident: Resident, timeout_s: float) -> None:
        """Run a known image; WorkerError unless all is well with the device."""
        ...

    def close(self, timeout_s: float) -> None:
        """Finish what was taken, then stop."""
        ...

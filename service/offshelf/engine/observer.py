"""What the engine tells of its work, so that metrics need not live in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from offshelf.core.batching import Lane


class Observer(Protocol):
    """Called from the engine's threads, often: every method returns at once and never raises."""

    def decoded(self, seconds: float) -> None:
        """An image was decoded and cut, or found bad, in that time."""
        ...

    def waited(self, lane: Lane, seconds: float) -> None:
        """An item left the queue for the device after that time."""
        ...

    def ran(self, backbone: str, inputs: int, seconds: float) -> None:
        """A batch of so many inputs went through a backbone in that time."""
        ...

    def loaded(self, backbone: str, seconds: float) -> None:
        """A backbone was loaded onto the device, and tried, in that time."""
        ...

    def let_go(self, backbone: str) -> None:
        """A backbone left the device."""
        ...


class Unobserved:
    """An Observer for where nobody looks."""

    def decoded(self, seconds: float) -> None:
        """Nothing."""

    def waited(self, lane: Lane, seconds: float) -> None:
        """Nothing."""

    def ran(self, backbone: str, inputs: int, seconds: float) -> None:
        """Nothing."""

    def loaded(self, backbone: str, seconds: float) -> None:
        """Nothing."""

    def let_go(self, backbone: str) -> None:
        """Nothing."""

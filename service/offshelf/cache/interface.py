"""The port of the content cache: values by key, each of which may be gone at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Values(Protocol):
    """Bytes by key, bounded in size. A cache that is away or broken raises DependencyError."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, or None, in one round trip."""
        ...

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values, in one round trip; older ones go where there is no room."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...

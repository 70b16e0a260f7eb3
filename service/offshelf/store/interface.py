"""The store: immutable objects under keys, the same for a directory and for S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Store(Protocol):
    """Objects by key (`a/b/c`). Writes are atomic: an object is there whole or not at all.

    Every method raises DependencyError when the store cannot be reached or is full.
    """

    def put_new(self, key: str, data: bytes | Path) -> bool:
        """Write an object unless the key is taken; whether it was written. A Path is streamed."""
        ...

    def get(self, key: str) -> bytes:
        """Read an object; UnknownName when there is none."""
        ...

    def get_range(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start` on, or fewer where the object ends; UnknownName without it."""
        ...

    def size(self, key: str) -> int:
        """The bytes of an object; UnknownName when there is none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under a folder-like prefix, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""
        ...

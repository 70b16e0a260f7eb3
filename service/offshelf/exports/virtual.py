"""A file that is nowhere as a whole: bytes at hand and parts of stored objects, in a row."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from offshelf.errors import DependencyError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offshelf.store.interface import Store

# The largest chunk. Smaller parts are put together up to a quarter of it, larger ones are not
# copied for the sake of even chunks.
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """`size` bytes of a stored object from `start` on."""

    key: str
    start: int
    size: int


Part: TypeAlias = "bytes | Stored"


class VirtualFile:
    """Parts in a row. `etag` is a strong validator: other bytes have another one.

    Any range is read from the parts that it touches alone.
    """

    def __init__(self, store: Store, parts: Sequence[Part], etag: str, media_type: str) -> None:
        self.etag = etag
        self.media_type = media_type
        self._store = store
        self._parts = [part for part in parts if _size(part)]
        self._ends = list(accumulate(map(_size, self._parts)))

    @property
    def size(self) -> int:
        """All its bytes."""
        return self._ends[-1] if self._ends else 0

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `stop` (its end), in chunks of a megabyte at most.

        Raises DependencyError when a stored part is gone or too short.
        """
        stop = self.size if stop is None else min(stop, self.size)
        pieces: list[bytes] = []
        while start < stop:
            held = sum(map(len, pieces))
            pieces.append(self._piece(start, min(stop, start + CHUNK_BYTES - held)))
            start += len(pieces[-1])
            if start == stop or 4 * (held + len(pieces[-1])) >= CHUNK_BYTES:
                yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
                pieces = []

    def _piece(self, start: int, stop: int) -> bytes:
        """Bytes of the part that `start` lies in: up to `stop`, or to the part's end."""
        place = bisect_right(self._ends, start)
        part = self._parts[place]
        inside = start - (self._ends[place] - _size(part))
        size = min(stop, self._ends[place]) - start
        if isinstance(part, bytes):
            return part[inside : inside + size]
        try:
            data = self._store.get_range(part.key, part.start + inside, size)
        except UnknownName as error:
            raise DependencyError(f"a part of a file is gone: {part.key}") from error
        if len(data) != size:
            raise DependencyError(f"{part.key} ends before its time")
        return data


def _size(part: Part) -> int:
    return len(part) if isinstance(part, bytes) else part.size

"""Stores the images of an upload under their sha256, several writes at a time."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from offshelf.errors import InvalidParameter
from offshelf.store import layout

if TYPE_CHECKING:
    from concurrent.futures import Future

    from offshelf.datasets.interface import Member
    from offshelf.store.interface import Store

# Writes to an object store wait on the network; this many are under way at once.
WRITERS: Final = 8


class BlobWriter:
    """A context manager; at its end all that was added is in the store, or it raises."""

    def __init__(self, store: Store, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._writes: deque[Future[bool]] = deque()
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="dataset-write")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._pool:
            while self._writes and kind is None:
                self._writes.popleft().result()

    def add(self, member: Member) -> tuple[str, int]:
        """Read an image of at most `max_bytes` and store it: its sha256 and its bytes."""
        image = _read(member, self._max_bytes)
        sha256 = hashlib.sha256(image).hexdigest()
        self._writes.append(self._pool.submit(self._store.put_new, layout.blob(sha256), image))
        if len(self._writes) >= WRITERS:
            self._writes.popleft().result()
        return sha256, len(image)


def _read(member: Member, max_bytes: int) -> bytes:
    with member.open() as stream:
        data = stream.read(max_bytes + 1)
    if len(data) != member.size:
        raise InvalidParameter(f"{member.path!r} in the archive is cut short")
    return data

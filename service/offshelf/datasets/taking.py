"""Reads the images of a collection: digests, headers and, where wanted, copies; several at once."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillAtIt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from offshelf.engine.decode import check_header
from offshelf.errors import InvalidImage, InvalidParameter, TooLarge
from offshelf.schemas.datasets import SkippedFile
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from offshelf.datasets.interface import Collection, ImportLimits, Member, Watch
    from offshelf.store.interface import Store

# Object stores answer late: this many images are on their way at once.
HANDS: Final = 8
CHECK_S: Final = 0.25
MAX_SKIPPED: Final = 1000


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a file. `fault` says why its image cannot be read, empty where it can.

    Without a `sha256` nobody knows its bytes, and they were not kept.
    """

    path: str
    fault: str = ""
    sha256: str = ""
    bytes: int = 0
    source: str = ""


@dataclass(slots=True)
class Skipped:
    """The files that were left out, or cannot be read; the first of them by name."""

    files: list[SkippedFile] = field(default_factory=list)
    total: int = 0

    def add(self, path: str, reason: str) -> None:
        """Note one of them."""
        self.total += 1
        if len(self.files) < MAX_SKIPPED:
            self.files.append(SkippedFile(path=path, reason=reason))


class Taking:
    """How images are taken in: into `store` if they are copied.

    With `keep_faulty` the bytes of images with a fault are kept as well, so that they are what
    they were when their features are asked for.
    """

    def __init__(
        self, store: Store, limits: ImportLimits, *, copied: bool, keep_faulty: bool = False
    ) -> None:
        self._store = store
        self._limits = limits
        self._copied = copied
        self._keep_faulty = keep_faulty

    def all(
        self, collection: Collection, members: Iterable[Member], watch: Watch
    ) -> Iterator[Taken]:
        """What became of each member, in their order. At its end all copies are in the store."""
        pool = ThreadPoolExecutor(HANDS, thread_name_prefix="dataset")
        under_way: deque[Future[Taken]] = deque()
        try:
            for member in members:
                watch.check()
                # An archive gives the bytes of its current member only.
                data = None if collection.parallel else self._read(member)
                under_way.append(pool.submit(self._take, member, data))
                if len(under_way) >= HANDS:
                    yield _result(under_way.popleft(), watch)
            while under_way:
                yield _result(under_way.popleft(), watch)
        finally:
            # Who is cancelled does not wait for a store that does not answer.
            pool.shutdown(wait=False, cancel_futures=True)

    def _take(self, member: Member, data: bytes | None) -> Taken:
        if fault := member.refused or self._too_large(member.size):
            return Taken(member.path, fault, bytes=member.size)
        try:
            data = self._read(member) if data is None else data
        except InvalidImage as error:
            return Taken(member.path, str(error))
        if fault := self._too_large(len(data)):  # it has grown since it was listed
            return Taken(member.path, fault, bytes=len(data))
        fault = self._fault(data)
        sha256 = hashlib.sha256(data).hexdigest()
        if self._copied and (self._keep_faulty or not fault):
            self._store.put_new(layout.blob(sha256), data)
        source = "" if self._copied else member.source
        return Taken(member.path, fault, sha256, len(data), source)

    def _read(self, member: Member) -> bytes:
        if member.refused or self._too_large(member.size):
            return b""
        with member.open() as stream:
            data = stream.read(self._limits.max_image_bytes + 1)
        if not member.source and len(data) != member.size:
            raise InvalidParameter(f"{member.path!r} in the archive is cut short")
        return data

    def _too_large(self, size: int) -> str:
        limit = self._limits.max_image_bytes
        return f"the image has {size} bytes; the limit is {limit}" if size > limit else ""

    def _fault(self, data: bytes) -> str:
        try:
            check_header(data, self._limits.image)
        except (InvalidImage, TooLarge) as error:
            return str(error)
        return ""


def _result(future: Future[Taken], watch: Watch) -> Taken:
    while True:
        watch.check()
        try:
            taken = future.result(timeout=CHECK_S)
        except StillAtIt:
            if future.done():  # the work itself says so
                raise
            continue
        watch.took(readable=not taken.fault)
        return taken

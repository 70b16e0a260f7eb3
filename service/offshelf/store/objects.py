"""The store over obstore: one adapter for a directory, for S3 and, in tests, for memory."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from offshelf.core.addresses import shown
from offshelf.errors import DependencyError, InvalidParameter, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from obstore.store import RetryConfig

Backend: TypeAlias = LocalStore | MemoryStore | S3Store

# A conditional write goes in one piece, which is held in memory: files above this are streamed
# instead, after a look whether the key is taken. Such keys are content-addressed, so two writers
# who race write the same bytes.
MAX_CONDITIONAL_BYTES: Final = 64 << 20

LISTED: Final = 1000
# How the errors of a store without room read: of a disk, of a quota, of S3 (MinIO, Ceph).
NO_ROOM: Final = (
    "no space left",
    "quota",
    "storagefull",
    "insufficientstorage",
    "os error 27",
    "os error 28",
)

# Nobody waits for an object store longer than this; jobs and clients try again later.
S3_RETRY: Final[RetryConfig] = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}


class ObjectStore:
    """A `store.interface.Store` in one obstore backend.

    obstore writes atomically (a staged file and a rename, or one PUT); its errors become
    UnknownName where there is no such object and DependencyError everywhere else.
    """

    def __init__(self, backend: Backend, where: str) -> None:
        self._backend = backend
        self._where = where

    @classmethod
    def open(cls, url: str) -> ObjectStore:
        """The store at `file:///folder` (made if need be), `s3://bucket/prefix` or `memory://`.

        S3 credentials, region and endpoint come from the usual `AWS_` variables. Raises
        InvalidParameter for another scheme and DependencyError where the place cannot be opened.
        """
        where = shown(url)
        with _translated("such store", f"the store at {where}"):
            return cls(_backend(url), where)

    def put_new(self, key: str, data: bytes | Path) -> bool:
        """Write an object unless the key is taken; whether it was written. A Path is streamed."""
        with self._on(key):
            if isinstance(data, Path) and data.stat().st_size > MAX_CONDITIONAL_BYTES:
                return self._stream_new(key, data)
            try:
                obstore.put(self._backend, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def get(self, key: str) -> bytes:
        """Read an object; UnknownName when there is none."""
        with self._on(key):
            return bytes(obstore.get(self._backend, key).bytes())

    def get_at_most(self, key: str, most: int) -> bytes | None:
        """Read an object of at most so many bytes, None for a larger one; UnknownName for none."""
        with self._on(key):
            found = obstore.get(self._backend, key)
            return bytes(found.bytes()) if found.meta["size"] <= most else None

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Key and bytes of all objects under a folder-like prefix, as they are listed."""
        with self._on(prefix):
            for page in obstore.list(self._backend, prefix or None, chunk_size=LISTED):
                for meta in page:
                    yield meta["path"], meta["size"]

    def get_range(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start` on, or fewer where the object ends; UnknownName without it."""
        if size == 0:
            return b""
        with self._on(key):
            return bytes(obstore.get_range(self._backend, key, start=start, length=size))

    def size(self, key: str) -> int:
        """The bytes of an object; UnknownName when there is none."""
        with self._on(key):
            return int(obstore.head(self._backend, key)["size"])

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        try:
            with self._on(key):
                obstore.head(self._backend, key)
        except UnknownName:
            return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under a folder-like prefix, sorted."""
        with self._on(prefix):
            found = [meta["path"] for page in obstore.list(self._backend, prefix) for meta in page]
        return iter(sorted(found))

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""
        try:
            with self._on(key):
                obstore.delete(self._backend, key)
        except UnknownName:
            return

    def _stream_new(self, key: str, path: Path) -> bool:
        if self.exists(key):
            return False
        obstore.put(self._backend, key, path)
        return True

    def _on(self, key: str) -> AbstractContextManager[None]:
        return _translated(f"{key!r} in the store", f"{key!r} in the store at {self._where}")


def _backend(url: str) -> Backend:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)), mkdir=True)
    if parts.scheme == "s3":
        return S3Store.from_url(url, retry_config=S3_RETRY)
    if parts.scheme == "memory":
        return MemoryStore()
    raise InvalidParameter(
        f"store URL {shown(url)!r}: the schemes are file://, s3:// and memory://"
    )


@contextmanager
def _translated(what: str, where: str) -> Iterator[None]:
    """Raise our errors for obstore's; ValueError is its word for a key that cannot be.

    UnknownName reaches clients and names `what` alone; `where` is for the log.
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise UnknownName(f"there is no {what}") from error
    except (BaseError, OSError) as error:
        message = f"cannot use {where}: {_first_line(error)}"
        full = any(sign in str(error).lower() for sign in NO_ROOM)
        public = "the store is full" if full else "the store is away; the log has more"
        raise DependencyError(message, public=public) from error


def _first_line(error: Exception) -> str:
    """Obstore appends a dump of its internals to the first line."""
    return next(iter(str(error).splitlines()), type(error).__name__)

"""Folders and `s3://` prefixes that datasets may be registered from: below allowed roots only.

Folders are walked here and not by the object store's library, whose walk follows links out of
a root, and stops at the first that leads in a circle. S3 is spoken through that library.
"""

from __future__ import annotations

import io
import os
import posixpath
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol
from urllib.parse import unquote

from offshelf.core.addresses import shown
from offshelf.datasets.interface import MAX_PATH_CHARS, Collection, Member, clean_path
from offshelf.errors import InvalidImage, InvalidParameter, UnknownName
from offshelf.store.objects import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETTING: Final = "OFFSHELF_DATASET_SOURCES"
S3: Final = "s3://"
FILE: Final = "file://"
MAX_LIST_BYTES: Final = 64 << 20  # more than any file that is read whole: images and lists
LINK_OUT: Final = "a link that leads out of what the service may read"


class Source(Collection, Protocol):
    """A place below an allowed root; its members raise InvalidParameter where there is none."""

    def read(self, most: int) -> bytes:
        """The place itself as a file; InvalidImage where it cannot be read or has over `most`."""
        ...


class Sources:
    """The allowed roots: folders, and `s3://bucket` or `s3://bucket/prefix`. None allows none."""

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self._roots = tuple(place(root) for root in roots)

    def open(self, source: str) -> Source:
        """The place that a text names.

        InvalidParameter unless it is below a root, links considered; whether there is anything
        elsewhere is not told.
        """
        where = place(source)
        if not any(_below(where, root) for root in self._roots):
            raise _forbidden(source)
        if where.startswith(S3):
            return _Objects(where)
        return _Folder(Path(where), self._real_roots(source, where))

    def _real_roots(self, source: str, where: str) -> tuple[str, ...]:
        roots = tuple(os.path.realpath(r) for r in self._roots if not r.startswith(S3))
        if not _inside(os.path.realpath(where), roots):
            raise _forbidden(source)
        return roots

    def has(self, source: str) -> bool:
        """Whether there is anything where a registered file was: a disk may be away.

        What tells is the first folder below the root, as a disk that is not mounted leaves the
        empty folder that it is mounted on.
        """
        roots = [root for root in self._roots if _below(source, root)]
        return any(root.startswith(S3) or _first_below(root, source).is_dir() for root in roots)


def place(text: str) -> str:
    """A folder's absolute path, or `s3://bucket/prefix`, in its one form; else InvalidParameter."""
    path = text.removeprefix(S3)
    if path == text:
        path = unquote(text.removeprefix(FILE)) if text.startswith(FILE) else text
        if not path.startswith("/"):
            raise InvalidParameter(
                f"{shown(text)[:MAX_PATH_CHARS]!r} is no place to read from: name a folder by its "
                "absolute path or as file:///folder, or s3://bucket/prefix"
            )
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path or (text.startswith(S3) and not parts):
        raise InvalidParameter(
            f"{shown(text)[:MAX_PATH_CHARS]!r} is no place to read from: a path without '..' and "
            "control characters is, and after s3:// the name of a bucket"
        )
    return (S3 if text.startswith(S3) else "/") + "/".join(parts)


NO_SOURCES: Final = Sources()


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder, or a file in one, on a disk of the service. `roots` are real paths."""

    path: Path
    roots: tuple[str, ...]
    what: str = "the folder"
    parallel: bool = True

    def members(self) -> Iterator[Member]:
        if not self.path.is_dir():
            raise InvalidParameter(f"there is no folder {str(self.path)!r}")
        todo = [""]
        while todo:
            prefix = todo.pop()
            try:
                entries = os.scandir(self.path / prefix)
            except OSError as error:
                fault = f"the folder cannot be listed: {error.strerror}"
                yield Member(_printable(prefix.rstrip("/") or "."), 0, io.BytesIO, refused=fault)
                continue
            with entries:
                for entry in entries:
                    path = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{path}/")
                    else:
                        yield self._member(path, entry)

    def _member(self, path: str, entry: os.DirEntry[str]) -> Member:
        full = self.path / path
        refused, size = self._refused(full, path), 0
        if not refused:
            try:
                size = entry.stat().st_size
            except OSError as error:
                refused = error.strerror or "it cannot be read"
        opened = partial(self._open, full)
        return Member(_printable(path), size, opened, str(full), refused)

    def _refused(self, full: Path, path: str) -> str:
        if fault := _odd(path):
            return fault
        if full.is_symlink() and not _inside(os.path.realpath(full), self.roots):
            return LINK_OUT
        return "" if full.is_file() else "not a file"

    def _open(self, full: Path) -> BinaryIO:
        return io.BytesIO(_Folder(full, self.roots).read(MAX_LIST_BYTES))

    def read(self, most: int) -> bytes:
        """The bytes of a file; links are looked at again, as one may have come since."""
        if not _inside(os.path.realpath(self.path), self.roots):
            raise InvalidImage(LINK_OUT)
        try:
            if not self.path.is_file():
                raise InvalidImage("the file is gone")
            with self.path.open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise InvalidImage(f"the file cannot be read: {error.strerror}") from error
        return _bounded(data, most)


@dataclass(frozen=True, slots=True)
class _Objects:
    """A prefix, or an object, of a bucket."""

    where: str
    what: str = "the prefix"
    parallel: bool = True

    def members(self) -> Iterator[Member]:
        bucket, prefix = _split(self.where)
        store, found = _bucket(bucket), False
        for key, size in store.sizes(prefix):
            found = True
            path = key[len(prefix) :].lstrip("/")
            if not path or key.endswith("/"):
                continue  # what some tools write for a folder
            where = f"{bucket}/{key}"
            yield Member(_printable(path), size, partial(_open_object, where), where, _odd(path))
        if not found:
            raise InvalidParameter(f"there is nothing under {self.where!r}")

    def read(self, most: int) -> bytes:
        bucket, key = _split(self.where)
        try:
            data = _bucket(bucket).get_at_most(key, most)
        except UnknownName:
            raise InvalidImage("the object is gone") from None
        return _bounded(data, most)


def _open_object(where: str) -> BinaryIO:
    return io.BytesIO(_Objects(where).read(MAX_LIST_BYTES))


def _bounded(data: bytes | None, most: int) -> bytes:
    if data is None or len(data) > most:
        raise InvalidImage(f"it has more than {most} bytes")
    return data


def _split(where: str) -> tuple[str, str]:
    """`s3://bucket`, and the key or prefix in it."""
    bucket, _, key = where.removeprefix(S3).partition("/")
    return S3 + bucket, key


@cache
def _bucket(bucket: str) -> ObjectStore:
    """One connection pool a bucket."""
    return ObjectStore.open(bucket)


def _below(where: str, root: str) -> bool:
    return where == root or where.startswith(root.rstrip("/") + "/")


def _first_below(root: str, source: str) -> Path:
    """The folder in a root that leads to a file; the root for a file that is in it."""
    first, _, more = source.removeprefix(root).lstrip("/").partition("/")
    return Path(root, first) if more else Path(root)


def _inside(real: str, roots: Sequence[str]) -> bool:
    return any(posixpath.commonpath((real, root)) == root for root in roots)


def _odd(path: str) -> str:
    """Why a name cannot be that of an item; empty for those that can."""
    try:
        clean_path(path)
    except InvalidParameter:
        return f"its path has over {MAX_PATH_CHARS} or control characters, or is not UTF-8"
    return ""


def _printable(path: str) -> str:
    return path if not _odd(path) else path.encode("unicode_escape").decode()[:MAX_PATH_CHARS]


def _forbidden(source: str) -> InvalidParameter:
    return InvalidParameter(
        f"the service may not read {shown(source)[:MAX_PATH_CHARS]!r}: what it may read is set "
        f"by {SETTING}"
    )

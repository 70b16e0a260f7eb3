"""Reads zip and tar uploads as streams, and refuses what an image folder never holds.

The archive is data from outside: links, devices, encrypted members, doubled paths and bombs are
refused with the reason. Nothing is unpacked to disk, and memory is bounded by one read.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from offshelf.datasets.interface import Budget, Limits, Member, clean_path
from offshelf.errors import InvalidParameter, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

READABLE: Final = "zip, tar, tar.gz, tar.bz2 or tar.xz"

# A tar header of a long name or of PAX attributes is read into memory before it is looked at.
MAX_TAR_HEADER_BYTES: Final = 1 << 20
TAR_HEADERS: Final = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)

DRAIN_BYTES: Final = 1 << 16

# The directory of a zip is read into memory whole; an entry takes 46 bytes and its path.
MAX_ZIP_ENTRY_BYTES: Final = 256
EOCD: Final = struct.Struct("<4s4H2LH")
EOCD64_LOCATOR: Final = struct.Struct("<4sLQL")
EOCD64: Final = struct.Struct("<4sQ2H2L4Q")
MAX_ZIP_COMMENT_BYTES: Final = 65_535

# What the standard library raises for archives that are broken or of an unknown kind.
BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)


def read_archive(file: BinaryIO, limits: Limits) -> Iterator[Member]:
    """The files of a zip or tar in its own order; directories are left out.

    `file` is seekable. Raises InvalidParameter for what cannot or must not be read, and TooLarge
    over a limit. Each member must be read before the next one is asked for.
    """
    budget = Budget(limits, file.seek(0, os.SEEK_END))
    file.seek(0)
    magic = file.read(6)
    file.seek(0)
    if not magic:
        raise InvalidParameter("the archive is empty")
    try:
        if magic.startswith(b"PK"):
            members = _zip_members(file, limits, budget)
        else:
            members = _tar_members(_decompressed(file, magic), budget)
        yield from _no_duplicates(members)
    except BROKEN as error:
        raise InvalidParameter(f"not a readable archive ({READABLE}): {error}") from error


def _no_duplicates(members: Iterator[Member]) -> Iterator[Member]:
    seen: set[str] = set()
    for member in members:
        if member.path in seen:
            raise InvalidParameter(f"the archive has {member.path!r} twice")
        seen.add(member.path)
        yield member


class _Guarded(io.RawIOBase):
    """A reader that says in our words what is broken, and spends the budget for what it reads."""

    def __init__(self, inner: BinaryIO, budget: Budget | None = None) -> None:
        self._inner = inner
        self._budget = budget

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._inner.read(size)
        except BROKEN as error:
            raise InvalidParameter(f"the archive is broken: {error}") from error
        if self._budget:
            self._budget.spend(len(data))
        return data


def _zip_members(file: BinaryIO, limits: Limits, budget: Budget) -> Iterator[Member]:
    _check_zip_directory(file, limits)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            budget.count_file()
            path = clean_path(info.filename.replace("\\", "/"))
            if not info.is_dir():
                _check_zip_member(info, path)
                yield Member(path, info.file_size, lambda i=info: _open_zip(archive, i, budget))  # type: ignore[misc]  # a default binds the loop's value


def _open_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> BinaryIO:
    try:
        return cast("BinaryIO", _Guarded(cast("BinaryIO", archive.open(info)), budget))
    except (*BROKEN, RuntimeError) as error:
        raise InvalidParameter(f"the archive is broken: {error}") from error


def _check_zip_member(info: zipfile.ZipInfo, path: str) -> None:
    if info.flag_bits & 0x1:
        raise InvalidParameter(f"{path!r} in the archive is encrypted")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise InvalidParameter(f"{path!r} in the archive is a link or a device, not a file")


def _check_zip_directory(file: BinaryIO, limits: Limits) -> None:
    """Refuse a directory of more entries than allowed before it is read into memory."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - EOCD.size - EOCD64_LOCATOR.size - MAX_ZIP_COMMENT_BYTES)
    file.seek(start)
    tail = file.read(end - start)
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < EOCD.size:
        raise InvalidParameter("the zip archive is cut short: it has no directory at its end")
    entries, directory_bytes = EOCD.unpack_from(tail, at)[4:6]
    locator = at - EOCD64_LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        entries, directory_bytes = _zip64_directory(file, tail, locator)
    if entries > limits.max_files or directory_bytes > limits.max_files * MAX_ZIP_ENTRY_BYTES:
        raise TooLarge(f"the archive has more than {limits.max_files} entries")


def _zip64_directory(file: BinaryIO, tail: bytes, locator: int) -> tuple[int, int]:
    offset = EOCD64_LOCATOR.unpack_from(tail, locator)[2]
    file.seek(offset)
    record = EOCD64.unpack(file.read(EOCD64.size))
    file.seek(0)
    if record[0] != b"PK\x06\x06":
        raise InvalidParameter("the zip archive is broken: its directory is not where it should be")
    return record[7], record[8]


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses headers that would be read into memory at any size, and an end without its mark."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedTarInfo:
        if not buf:
            raise InvalidParameter("the tar archive is cut short: it has no end mark")
        info = super().frombuf(buf, encoding, errors)
        if info.type in TAR_HEADERS and info.size > MAX_TAR_HEADER_BYTES:
            raise InvalidParameter("the archive has a header that is too long")
        return info


def _decompressed(file: BinaryIO, magic: bytes) -> BinaryIO:
    if magic.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if magic.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(file))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return cast("BinaryIO", lzma.LZMAFile(file))
    return file


def _tar_members(file: BinaryIO, budget: Budget) -> Iterator[Member]:
    metered = cast("BinaryIO", _Guarded(file, budget))
    with tarfile.open(fileobj=metered, mode="r|", tarinfo=_BoundedTarInfo) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep every header
            budget.count_file()
            if not _is_tar_root(info):
                path = clean_path(info.name)
                if not info.isdir():
                    _check_tar_member(info, path)
                    yield Member(path, info.size, lambda i=info: _open_tar(archive, i))  # type: ignore[misc]  # a default binds the loop's value
    # Reading on to the end checks what the compressor wrote there.
    while metered.read(DRAIN_BYTES):
        pass


def _is_tar_root(info: tarfile.TarInfo) -> bool:
    """`tar c .` begins with an entry for the folder itself."""
    return info.isdir() and info.name in (".", "./", "")


def _check_tar_member(info: tarfile.TarInfo, path: str) -> None:
    if not info.isreg() or info.issparse():
        raise InvalidParameter(f"{path!r} in the archive is a link, a device or sparse, not a file")


def _open_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> BinaryIO:
    return cast("BinaryIO", _Guarded(cast("BinaryIO", archive.extractfile(info))))

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
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from offshelf.datasets.interface import Budget, ImportLimits, Member, clean_path
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

# tarfile recurses for each header that stands before a member; real ones have two or three.
MAX_TAR_HEADERS: Final = 50

# Attributes of the whole archive are kept in memory and copied for members; git writes one.
MAX_TAR_GLOBALS: Final = 64

DRAIN_BYTES: Final = 1 << 16

# The directory of a zip is read into memory whole; an entry takes 46 bytes and its path.
MAX_ZIP_ENTRY_BYTES: Final = 256
EOCD: Final = struct.Struct("<4s4H2LH")
EOCD64_LOCATOR: Final = struct.Struct("<4sLQL")
EOCD64: Final = struct.Struct("<4sQ2H2L4Q")
MAX_ZIP_COMMENT_BYTES: Final = 65_535
MAX_ZIP_END_BYTES: Final = EOCD64.size + EOCD64_LOCATOR.size + EOCD.size + MAX_ZIP_COMMENT_BYTES

# Before 3.11.10 and 3.12.6 tarfile takes quadratic time for long runs of digits in attributes.
MAX_DIGITS: Final = 100
MAX_LENGTH_DIGITS: Final = 10

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
    RecursionError,
    ValueError,
)


class Archive:
    """An uploaded zip or tar as a `Collection`; `file` is seekable."""

    what = "the archive"
    parallel = False

    def __init__(self, file: BinaryIO, limits: ImportLimits) -> None:
        self._file = file
        self._limits = limits

    def members(self) -> Iterator[Member]:
        """The files in the archive's own order."""
        return read_archive(self._file, self._limits)


def read_archive(file: BinaryIO, limits: ImportLimits) -> Iterator[Member]:
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


def _zip_members(file: BinaryIO, limits: ImportLimits, budget: Budget) -> Iterator[Member]:
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


def _check_zip_directory(file: BinaryIO, limits: ImportLimits) -> None:
    """Refuse a directory of more entries than allowed before it is read into memory."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - MAX_ZIP_END_BYTES)
    file.seek(start)
    tail = file.read(end - start)
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < EOCD.size:
        raise InvalidParameter("the zip archive is cut short: it has no directory at its end")
    entries, directory_bytes = EOCD.unpack_from(tail, at)[4:6]
    locator = at - EOCD64_LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        entries, directory_bytes = _zip64_directory(tail, locator, start)
    if entries > limits.max_files or directory_bytes > limits.max_files * MAX_ZIP_ENTRY_BYTES:
        raise TooLarge(f"the archive has more than {limits.max_files} entries")


def _zip64_directory(tail: bytes, locator: int, start: int) -> tuple[int, int]:
    """Entries and bytes of the directory; `tail` begins at `start` of the file.

    zipfile reads the record directly before the locator, wherever the locator points: what we
    check must be what it reads.
    """
    at = locator - EOCD64.size
    points_at = EOCD64_LOCATOR.unpack_from(tail, locator)[2]
    if at < 0 or points_at != start + at or tail[at : at + 4] != b"PK\x06\x06":
        raise InvalidParameter("the zip archive is broken: its directory is not where it should be")
    record = EOCD64.unpack_from(tail, at)
    return record[7], record[8]


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses headers that would be read into memory at any size, and an end without its mark.

    A sparse member's map is built from the file's data before anybody sees the member, so its
    header is refused.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedTarInfo:
        if not buf:
            raise InvalidParameter("the tar archive is cut short: it has no end mark")
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0:
            raise InvalidParameter("the archive has a member of negative size")
        if info.type in TAR_HEADERS and info.size > MAX_TAR_HEADER_BYTES:
            raise InvalidParameter("the archive has a header that is too long")
        if info.type == tarfile.GNUTYPE_SPARSE:
            _refuse_sparse()
        return info

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _BoundedTarInfo:
        assert isinstance(tarfile, _BoundedTar)  # noqa: S101  # made for it alone
        tarfile.count_header()
        return super().fromtarfile(tarfile)

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Check the attributes before tarfile reads them: its search for records is lenient."""
        stream = cast("BinaryIO", archive.fileobj)
        data = stream.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        _check_attributes(data)
        archive.fileobj = cast("Any", _Again(data, stream))
        try:
            return super()._proc_pax(archive)  # type: ignore[misc,no-any-return]  # the documented hook has no stub
        finally:
            archive.fileobj = cast("Any", stream)

    def _proc_gnusparse_00(self, *_: object) -> None:
        _refuse_sparse()

    def _proc_gnusparse_01(self, *_: object) -> None:
        _refuse_sparse()

    def _proc_gnusparse_10(self, *_: object) -> None:
        _refuse_sparse()


class _BoundedTar(tarfile.TarFile):
    """Bounds what may stand before a member, and what the archive says of all of them."""

    tarinfo = _BoundedTarInfo
    _headers = 0
    _began = 0

    def next(self) -> tarfile.TarInfo | None:
        self._headers = 0
        found = super().next()
        if len(self.pax_headers) > MAX_TAR_GLOBALS:
            raise InvalidParameter("the archive has too many global attributes")
        return found

    def count_header(self) -> None:
        """Count a header of the member that is being read, itself included."""
        at = self.fileobj.tell() if self.fileobj else 0
        if self._headers == 0:
            self._began = at
        self._headers += 1
        if self._headers > MAX_TAR_HEADERS or at - self._began > 2 * MAX_TAR_HEADER_BYTES:
            raise InvalidParameter("the archive has too many headers before a member")


class _Again:
    """A stream that gives bytes that were read from it already, and then goes on."""

    def __init__(self, data: bytes, stream: BinaryIO) -> None:
        self._data = data
        self._stream = stream

    def read(self, size: int) -> bytes:
        if data := self._data:
            self._data = b""
            return data
        return self._stream.read(size)

    def tell(self) -> int:
        return self._stream.tell()


def _check_attributes(data: bytes) -> None:
    """InvalidParameter unless these are whole records: `<length> <name>=<value>` and a newline."""
    if any(len(run) > MAX_DIGITS for run in re.findall(rb"\d+", data)):
        raise InvalidParameter(f"the archive has an attribute of over {MAX_DIGITS} digits")
    at = 0
    while data[at : at + 1] not in (b"", b"\0"):
        length, found, _ = data[at : at + MAX_LENGTH_DIGITS + 1].partition(b" ")
        end = at + (int(length) if found and length.isdigit() else 0)
        body = at + len(length) + 1
        if data[end - 1 : end] != b"\n" or data.find(b"=", body, end) <= body:
            raise InvalidParameter("the archive has a broken header")
        at = end


def _refuse_sparse() -> None:
    raise InvalidParameter("the archive has a sparse file; pack it without --sparse")


def _decompressed(file: BinaryIO, magic: bytes) -> BinaryIO:
    if magic.startswith(b"\x1f\x8b"):
        # Without a mode it takes the file's own, and would write over an upload that is spooled.
        return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
    if magic.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(file))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return cast("BinaryIO", lzma.LZMAFile(file))
    return file


def _tar_members(file: BinaryIO, budget: Budget) -> Iterator[Member]:
    metered = cast("BinaryIO", _Guarded(file, budget))
    with _BoundedTar.open(fileobj=metered, mode="r|") as archive:
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
    if info.size < 0:  # the attributes may say so, whatever the header says
        raise InvalidParameter(f"{path!r} in the archive has a negative size")
    if not info.isreg() or info.issparse():
        raise InvalidParameter(f"{path!r} in the archive is a link, a device or sparse, not a file")


def _open_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> BinaryIO:
    return cast("BinaryIO", _Guarded(cast("BinaryIO", archive.extractfile(info))))

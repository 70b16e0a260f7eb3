"""What an upload or a source is to the dataset builders: a stream of files, within limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from offshelf.engine.decode import Limits
from offshelf.errors import InvalidParameter, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offshelf.settings import Settings

IMAGE_SUFFIXES: Final = frozenset(
    {".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
MAX_PATH_CHARS: Final = 1024

# Pictures hardly compress. An upload may unpack to this many times its size, and to the first
# `FREE_BYTES` at any ratio: small uploads of flat bitmaps compress a thousandfold.
MAX_RATIO: Final = 100
FREE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class ImportLimits:
    """What an upload may hold once unpacked, and what an image may be.

    `max_bytes` is not for sources, which are there already.
    """

    max_bytes: int
    max_files: int
    max_image_bytes: int
    max_image_pixels: int = 64_000_000

    @property
    def image(self) -> Limits:
        """What an image may be."""
        return Limits(self.max_image_bytes, self.max_image_pixels)


def limits_of(settings: Settings) -> ImportLimits:
    """The limits that are set."""
    return ImportLimits(
        settings.max_archive_bytes,
        settings.max_archive_files,
        settings.max_image_bytes,
        settings.max_image_pixels,
    )


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a collection.

    `open` gives its bytes: those of an archive's only while it is the current one. It raises
    InvalidImage for a file of a source that cannot be read (any more). `source` is where it stays,
    empty in an archive; `refused` says why nobody may read it, as a link that leads out of a
    source.
    """

    path: str
    size: int
    open: Callable[[], BinaryIO]
    source: str = ""
    refused: str = ""


class Collection(Protocol):
    """Files that a dataset is made of, gone through several times."""

    @property
    def what(self) -> str:
        """How errors call it."""
        ...

    @property
    def parallel(self) -> bool:
        """Whether members may be opened in any order, by many threads."""
        ...

    def members(self) -> Iterator[Member]:
        """The files, hidden ones included. Raises InvalidParameter and TooLarge."""
        ...


class Watch(Protocol):
    """Who follows an import, and may stop it by raising."""

    def check(self) -> None:
        """Called all along."""
        ...

    def found(self, images: int) -> None:
        """So many files are to be read."""
        ...

    def took(self, *, readable: bool) -> None:
        """One of them was read."""
        ...


class Unwatched:
    """A `Watch` for imports that nobody follows."""

    def check(self) -> None:
        """Go on."""

    def found(self, images: int) -> None:
        """Nobody wants to know."""

    def took(self, *, readable: bool) -> None:
        """Nobody wants to know."""


class Budget:
    """Counts unpacked bytes and files, and raises TooLarge at the limit."""

    def __init__(self, limits: ImportLimits, packed_bytes: int) -> None:
        self._limits = limits
        self._ratio_bytes = FREE_BYTES + MAX_RATIO * packed_bytes
        self._bytes = 0
        self._files = 0

    def spend(self, unpacked_bytes: int) -> None:
        """Count bytes that came out of the archive."""
        self._bytes += unpacked_bytes
        if self._bytes > self._limits.max_bytes:
            raise TooLarge(f"the archive unpacks to more than {self._limits.max_bytes} bytes")
        if self._bytes > self._ratio_bytes:
            raise TooLarge(f"the archive unpacks to more than {MAX_RATIO} times its size")

    def count_file(self) -> None:
        """Count an entry, whatever it is."""
        self._files += 1
        if self._files > self._limits.max_files:
            raise TooLarge(f"the archive has more than {self._limits.max_files} entries")


def is_image(path: str) -> bool:
    """Whether a file is an image by its name."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder that it is in, is one that people do not see."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def clean_path(raw: str) -> str:
    """A relative path of plain segments; InvalidParameter for one that leads elsewhere.

    Nothing is ever unpacked to a path of the archive, but a path that tries to escape means a
    broken or hostile archive, and labels are made of what is left.
    """
    if raw.startswith("/") or raw[1:3] in (":/", ":\\"):
        raise InvalidParameter(f"the archive has an absolute path: {raw[:200]!r}")
    segments = [segment for segment in raw.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise InvalidParameter(f"the archive has a path with '..': {raw[:200]!r}")
    path = "/".join(segments)
    if not path or len(path) > MAX_PATH_CHARS or not _is_plain(path):
        raise InvalidParameter(
            f"the archive has a path that is empty, longer than {MAX_PATH_CHARS} characters, "
            f"not UTF-8 or has control characters: {raw[:200]!r}"
        )
    return path


def _is_plain(path: str) -> bool:
    """Whether it can be written as UTF-8 (tar marks what cannot with surrogates) and read."""
    return not any(ord(char) < 32 or 0xD800 <= ord(char) <= 0xDFFF for char in path)

"""What an upload is to the dataset builders: a stream of files, within limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final

from offshelf.errors import InvalidParameter, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE_SUFFIXES: Final = frozenset(
    {".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
MAX_PATH_CHARS: Final = 1024

# Pictures hardly compress. An upload may unpack to this many times its size, and to the first
# `FREE_BYTES` at any ratio: small uploads of flat bitmaps compress a thousandfold.
MAX_RATIO: Final = 100
FREE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an upload may hold once unpacked."""

    max_bytes: int
    max_files: int
    max_image_bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an upload. `open` gives its bytes while it is the current one."""

    path: str
    size: int
    open: Callable[[], BinaryIO]


class Budget:
    """Counts unpacked bytes and files, and raises TooLarge at the limit."""

    def __init__(self, limits: ArchiveLimits, packed_bytes: int) -> None:
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

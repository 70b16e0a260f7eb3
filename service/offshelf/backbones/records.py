"""The sha256 of weights files: put on record when a file arrives, and held against it ever after.

The record of `x.pth` is `x.pth.sha256` beside it, in the format of `sha256sum`, so that it travels
with the file to a machine without a network and `sha256sum -c` reads it there.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING, Final

from offshelf.errors import WeightsMissing

if TYPE_CHECKING:
    from os import stat_result
    from pathlib import Path

SUFFIX: Final = ".sha256"
_LINE: Final = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_HASHES_KEPT: Final = 4096  # more than there are backbones: all are asked about at each heartbeat


def record_of(path: Path) -> Path:
    """Where the record of a weights file is."""
    return path.with_name(path.name + SUFFIX)


def recorded(path: Path) -> str | None:
    """The sha256 on record for a weights file, in lower case; None where there is no record.

    Raises WeightsMissing for a record that cannot be read, or is of another file.
    """
    record = record_of(path)
    try:
        lines = record.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsMissing(f"{record} cannot be read: {error}") from error
    found = {match[2]: match[1].lower() for line in lines if (match := _LINE.fullmatch(line))}
    if path.name not in found:
        raise WeightsMissing(
            f"{record} is not a record of {path.name}: its line is `<64 hex digits>  {path.name}`, "
            "as sha256sum prints it. Mend it, or delete it"
        )
    return found[path.name]


def record(path: Path, sha256: str) -> None:
    """Put a hash on record for a weights file that is there or is about to be."""
    target = record_of(path)
    made = target.with_name(target.name + ".new")
    made.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    made.replace(target)


def sha256_of(path: Path) -> str:
    """The hash of a file, taken once for as long as the file stays as it is."""
    return _hashed(path, *_identity(path.stat()))


def sha256_now(path: Path) -> str:
    """The hash of what is on the disk now, whatever was found before."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(_HASHES_KEPT)
def _hashed(path: Path, *_identity: int) -> str:
    return sha256_now(path)


def _identity(about: stat_result) -> tuple[int, ...]:
    """What changes when a file does; the change time does where the time of writing is set back."""
    return about.st_mtime_ns, about.st_size, about.st_ino, about.st_ctime_ns

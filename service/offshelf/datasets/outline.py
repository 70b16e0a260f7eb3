"""The outline of a data set on disk: its lists as they are, its images as bare names.

Protocols read folders, and look into lists and annotations only; so the images of an upload, which
may be many gigabytes, need not be unpacked for reading it.
"""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from offshelf.datasets.interface import is_hidden, is_image
from offshelf.datasets.protocols.tree import MAX_LIST_BYTES
from offshelf.errors import DependencyError, InvalidParameter, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offshelf.datasets.interface import Collection, ImportLimits, Member, Watch

MAX_LISTS_BYTES: Final = 1 << 30
CHUNK_BYTES: Final = 1 << 20
DISK_IS_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def unpack(collection: Collection, folder: Path, limits: ImportLimits, watch: Watch) -> None:
    """Write the outline of a collection into an empty folder.

    An image becomes a file of one byte, or of none where it is empty. A list beyond what a
    protocol reads (`tree.MAX_LIST_BYTES`) is as good as an image. Raises InvalidParameter,
    TooLarge, and DependencyError where the disk is full.
    """
    left = MAX_LISTS_BYTES
    for number, member in enumerate(collection.members(), 1):
        watch.check()
        if number > limits.max_files:
            raise TooLarge(f"{collection.what} has more than {limits.max_files} files")
        if is_hidden(member.path) or member.refused:
            continue
        with _written(member, folder) as out:
            if is_image(member.path) or member.size > MAX_LIST_BYTES:
                out.write(b"x" if member.size else b"")
                continue
            left -= member.size
            if left < 0:
                raise TooLarge(
                    f"the lists of {collection.what} come to more than {MAX_LISTS_BYTES} bytes"
                )
            with member.open() as stream:
                shutil.copyfileobj(stream, out, CHUNK_BYTES)


def only_folder(folder: Path) -> Path:
    """The one folder that a folder holds and nothing else, or the folder itself."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


@contextmanager
def _written(member: Member, folder: Path) -> Iterator[BinaryIO]:
    target = folder / member.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            yield out
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise DependencyError(f"no room to unpack an upload: {error}") from error
        raise InvalidParameter(
            f"{member.path[:200]!r} cannot be a file here: {error.strerror}"
        ) from error

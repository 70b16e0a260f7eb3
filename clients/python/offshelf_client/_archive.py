"""Packs a folder into a tar file, as datasets are uploaded."""

from __future__ import annotations

import tarfile
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final, Literal, TypeAlias

from offshelf_client._errors import UnreadableImage
from offshelf_client._images import images_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".zip")
# What the lists and annotations of data sets end in.
LISTS: Final = frozenset({".csv", ".txt", ".xml"})

Packed: TypeAlias = Literal["images", "images and lists", "all"]


def absolute(source: str | PathLike[str]) -> Path:
    """The full path, so that `.` has a name as well."""
    return Path(source).absolute()


@contextmanager
def archive(path: Path, packed: Packed) -> Iterator[tuple[str, IO[bytes]]]:
    """The file to upload for a folder or an archive: its name, and the file open at its start.

    Of a folder its images are packed, and perhaps its lists, which tell its layout, or all files
    but the hidden ones. They go, uncompressed (images are compressed already), into a temporary
    file that is gone afterwards. Raises UnreadableImage.
    """
    try:
        if path.is_dir():
            with TemporaryFile() as file:
                _pack(path, file, _files_of(path, packed))
                file.seek(0)
                yield f"{path.name or 'dataset'}.tar", file
        else:
            with path.open("rb") as file:
                yield path.name, file
    except OSError as error:
        raise UnreadableImage(f"cannot read {path}: {error}") from error


def _files_of(folder: Path, packed: Packed) -> list[Path]:
    images = images_in(folder)
    if packed == "images" or not images:
        return images
    if packed == "all":
        return _files_in(folder)
    lists = [path for path in _files_in(folder) if path.suffix.lower() in LISTS]
    return sorted({*images, *lists})


def _files_in(folder: Path) -> list[Path]:
    """All files of a folder and its sub-folders but the hidden ones, sorted by path."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )


def _pack(folder: Path, file: IO[bytes], paths: list[Path]) -> None:
    if not paths:
        raise UnreadableImage(f"there are no images in {folder}")
    # Links are packed as what they point to: an archive with links is refused.
    form = tarfile.PAX_FORMAT
    with tarfile.open(fileobj=file, mode="w", format=form, dereference=True) as tar:
        for path in paths:
            tar.add(path, arcname=path.relative_to(folder).as_posix(), filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who packed it is nobody's business."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class Counted:
    """A file that tells how far it has been read, in bytes."""

    def __init__(self, file: IO[bytes], told: Callable[[int], None]) -> None:
        self._file = file
        self._told = told

    def read(self, size: int = -1) -> bytes:
        """Read as the file does, and tell."""
        data = self._file.read(size)
        self._told(self._file.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek as the file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the file is."""
        return self._file.tell()

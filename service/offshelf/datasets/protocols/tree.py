"""A data set's folder as readers see it: lists, images, and a place to put what is wrong.

Reading stops at the first fault; verifying collects them all. The readers do not know which.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from offshelf.datasets.interface import IMAGE_SUFFIXES
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_LIST_BYTES: Final = 64 << 20
MAX_LINES: Final = 1_000_000  # of a list; CUB's parts, the longest official one, have 176,820
MAX_DEPTH: Final = 8  # links may lead in circles; no data set is deeper than four
SHOWN: Final = 5
UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Fault(StrEnum):
    """Kinds of things that are wrong with a copy; the value begins the sentence on them."""

    MISSING_LISTS = "missing files"
    MISSING_IMAGES = "missing images"
    MISSING_FOLDERS = "missing folders"
    EXTRA_IMAGES = "images that no list names"
    EXTRA_FOLDERS = "folders that do not belong"
    EMPTY_IMAGES = "empty image files"
    NAMES = "file names with control characters or not UTF-8"
    BROKEN_LISTS = "lists that cannot be read as they are"
    COUNTS = "wrong counts"


class Tree:
    """The folder of one copy. With `faults` what is wrong is put there, each name once."""

    def __init__(self, root: Path, faults: dict[Fault, dict[str, None]] | None = None) -> None:
        self.root = root
        self.counts: dict[str, int] = {}
        self._faults = faults
        self._images: dict[str, int] | None = None

    def fault(self, kind: Fault, names: Sequence[str]) -> None:
        """Something that no reader can work with; InvalidParameter unless they are collected."""
        if names and self._faults is None:
            raise InvalidParameter(sentence(kind, names))
        self.note(kind, names)

    def note(self, kind: Fault, names: Sequence[str]) -> None:
        """Something that only a verifier complains of: a part of a data set may be read."""
        if names and self._faults is not None:
            self._faults.setdefault(kind, {}).update(dict.fromkeys(map(_printable, names)))

    def has(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return (self.root / path).exists()

    def first(self, *paths: str) -> str:
        """The first of these paths that is there; the first of all when none is."""
        return next((path for path in paths if self.has(path)), paths[0])

    def expect(self, *paths: str) -> None:
        """Note official files that are absent, where a reader can do without."""
        self.note(Fault.MISSING_LISTS, [path for path in paths if not self.has(path)])

    def lines(self, path: str) -> list[tuple[str, str]]:
        """(place, text) of the lines that are not blank; a last newline may lack."""
        text = self._text(path)
        if text.count("\n") >= MAX_LINES:
            self.broken(path, f"more than {MAX_LINES} lines")
            return []
        stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
        return [(f"{path}:{number}", line) for number, line in stripped if line]

    def rows(self, path: str, columns: int) -> Iterator[tuple[str, list[str]]]:
        """(place, cells) of a table whose columns are set apart by any white space."""
        for place, line in self.lines(path):
            cells = line.split()
            if len(cells) == columns:
                yield place, cells
            else:
                self.broken(place, f"{len(cells)} columns; {columns} are needed")

    def broken(self, place: str, what: str) -> None:
        """A fault in a list: `path:line` and what is wrong there."""
        self.fault(Fault.BROKEN_LISTS, [f"{place}: {what}"])

    def folders(self, folder: str = "") -> list[str]:
        """The names of the folders in a folder, sorted; hidden ones are left out."""
        place = self.root / folder
        if not place.is_dir():
            self.fault(Fault.MISSING_FOLDERS, [folder or place.name])
            return []
        names = (entry.name for entry in place.iterdir() if entry.is_dir())
        return sorted(name for name in names if not _hidden(name))

    def images(self, folder: str = "") -> list[str]:
        """The paths of all image files below a folder, sorted, relative to the data set's own.

        What counts is the name's suffix; hidden files are left out.
        """
        if self._images is None:
            found = dict(sorted(_walk(self.root, "", 0)))
            odd = [path for path in found if _printable(path) != path]
            self._images = {path: size for path, size in found.items() if path not in odd}
            self.fault(Fault.NAMES, odd)
        prefix = f"{folder}/" if folder else ""
        return [path for path in self._images if path.startswith(prefix)]

    def empty_images(self) -> list[str]:
        """The image files of no bytes at all."""
        return [path for path in self.images() if not (self._images or {})[path]]

    def _text(self, path: str) -> str:
        file = self.root / path
        if not file.is_file():
            self.fault(Fault.MISSING_LISTS, [path])
            return ""
        with file.open("rb") as stream:
            data = stream.read(MAX_LIST_BYTES + 1)
        if len(data) > MAX_LIST_BYTES:
            self.broken(path, f"longer than {MAX_LIST_BYTES} bytes")
            return ""
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.broken(path, f"not UTF-8: {error}")
            return ""


def sentence(kind: Fault, names: Sequence[str], shown: int = SHOWN) -> str:
    """`missing images: a.jpg, b.jpg and 7 more`."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{kind.value}: {', '.join(map(_printable, names[:shown]))}{more}"


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    """(path, bytes) of the image files below."""
    if depth > MAX_DEPTH:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if _hidden(entry.name):
                continue
            path = prefix + entry.name
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{path}/", depth + 1)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():  # noqa: PTH122  # a Path for each of 100,000 names is slow
                yield path, entry.stat().st_size


def _printable(name: str) -> str:
    """The name with control characters, and bytes that are not UTF-8, written out."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"

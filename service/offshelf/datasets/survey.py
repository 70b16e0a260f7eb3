"""Tells the layout of a collection by the names of its files alone, before any of them is read.

The rules, in this order: lists of an official layout mean its protocol, if they can be those of
one only; else folders of train, val and test mean the protocol `image-folder`; all else has to be
`<class>/<image>`. Where one folder holds all images, what is in it counts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from offshelf.datasets.interface import is_hidden, is_image
from offshelf.datasets.protocols.image_folder import SIDES
from offshelf.datasets.protocols.interface import PROTOCOLS
from offshelf.errors import InvalidParameter, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from offshelf.datasets.interface import Collection, Watch

SPLIT_FOLDERS: Final = "image-folder"  # the protocol of folders that are split already
LAYOUT: Final = "the layout is <class>/<image>, in one folder more at most"
MAX_SHOWN: Final = 200


@dataclass(slots=True)
class Survey:
    """What the names of the files say; it stays small, however many there are.

    `marks`: protocol -> the first list found of its layout, and how deep in `inside` folders, for
    the collection itself and for what is in its one folder.
    """

    images: int = 0
    tops: set[str] = field(default_factory=set)  # two at most
    examples: dict[int, str] = field(default_factory=dict)  # segments of the path -> first path
    sides: list[bool] = field(default_factory=lambda: [True, True])
    marks: list[dict[str, tuple[int, str]]] = field(default_factory=lambda: [{}, {}])

    def see(self, path: str) -> None:
        """Take note of a file that is not hidden."""
        parts = path.split("/")
        for down in (0, 1):
            for name, rank in _marked("/".join(parts[down:])):
                known = self.marks[down].get(name, (-1, ""))
                self.marks[down][name] = max(known, (rank, path), key=lambda found: found[0])
        if is_image(path):
            self._see_image(path, parts)

    def _see_image(self, path: str, parts: list[str]) -> None:
        self.images += 1
        if len(self.tops) < 2:
            self.tops.add(parts[0])
        self.examples.setdefault(len(parts), path)
        for down in (0, 1):
            side = parts[down].lower() if len(parts) > down else ""
            self.sides[down] = self.sides[down] and side in SIDES

    @property
    def down(self) -> int:
        """1 where one folder holds all images, and folders of theirs in it; else 0."""
        return int(len(self.tops) == 1 and min(self.examples, default=0) > 2)

    def protocols(self) -> dict[str, str]:
        """The protocols whose lists are here, each with one of them: those whose folder fits best.

        `VOC2007/ImageSets` is VOC 2007's, though `ImageSets` may be any year's.
        """
        found = [*self.marks[0].items(), *(self.marks[1].items() if self.down else ())]
        best = max((rank for _, (rank, _) in found), default=0)
        return {name: path for name, (rank, path) in sorted(found) if rank == best}

    def check_folders(self, what: str) -> None:
        """InvalidParameter unless every image is in a class's folder."""
        if not self.images:
            raise InvalidParameter(f"{what} has no images ({LAYOUT})")
        depth = 2 + self.down
        wrong = next((found for at, found in self.examples.items() if at != depth), None)
        if wrong is not None:
            few = wrong.count("/") + 1 < depth
            where = "at the root, outside any class" if few else "too deep"
            raise InvalidParameter(
                f"image {wrong[:MAX_SHOWN]!r} lies {where}; {LAYOUT}; other layouts are those of "
                f"the protocols {', '.join(PROTOCOLS.names())}"
            )


def survey(collection: Collection, max_files: int, watch: Watch) -> Survey:
    """Go through the names; TooLarge for more than `max_files` files."""
    seen = Survey()
    for number, member in enumerate(collection.members(), 1):
        watch.check()
        if number > max_files:
            raise TooLarge(f"{collection.what} has more than {max_files} files")
        if not is_hidden(member.path):
            seen.see(member.path)
    return seen


def protocol_of(seen: Survey, what: str) -> str | None:
    """The name of the protocol that a collection is to be read by; None for plain folders.

    InvalidParameter where it may be one of several: it says what was found and what to choose
    from.
    """
    found = seen.protocols()
    if len(found) > 1:
        raise InvalidParameter(
            f"{what} has {_lists(found)}: name the protocol to read it by ({', '.join(found)}), "
            "or say layout=folder to take folders for classes"
        )
    if found:
        return next(iter(found))
    down = seen.down
    if seen.images and seen.sides[down] and set(seen.examples) == {3 + down}:
        return SPLIT_FOLDERS
    return None


def _lists(found: Mapping[str, str]) -> str:
    return " and ".join(repr(path[:MAX_SHOWN]) for path in dict.fromkeys(found.values()))


def _marked(path: str) -> Iterable[tuple[str, int]]:
    """The protocols of whose layout a file is a mark, and in how many folders of theirs it is."""
    marks = _marks()
    at = path.find("/")
    while at >= 0:
        yield from marks.get(path[:at], ())
        at = path.find("/", at + 1)
    yield from marks.get(path, ())


@cache
def _marks() -> Mapping[str, list[tuple[str, int]]]:
    """Path of a mark, from the top of a collection -> the protocols it is of, and its depth."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name in PROTOCOLS.names():
        protocol = PROTOCOLS.get(name)
        for folder in ("", *protocol.inside):
            for mark in protocol.marks:
                path = f"{folder}/{mark}" if folder else mark
                found[path].append((name, len(folder.split("/")) if folder else 0))
    return found

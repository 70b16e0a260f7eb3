"""Whether a copy of a data set is the official one, and what is missing or too much if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.datasets.protocols.interface import check_files
from offshelf.datasets.protocols.tree import SHOWN, Fault, Tree, sentence
from offshelf.errors import InvalidParameter
from offshelf.schemas.base import Strict

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from offshelf.datasets.protocols.interface import Card, Description, Protocol


class Count(Strict):
    """One official count and what the copy has; several where its splits differ."""

    what: str
    official: int
    found: tuple[int, ...]

    @property
    def right(self) -> bool:
        """Whether it is so."""
        return self.found == (self.official,)


class Verification(Strict):
    """What was found. `faults` are whole lists of names by kind; none means the copy is right."""

    protocol: str
    folder: str
    faults: dict[Fault, tuple[str, ...]]
    counts: tuple[Count, ...]

    @property
    def right(self) -> bool:
        """Whether the copy is the official one."""
        return not self.faults

    def sentences(self, shown: int = SHOWN) -> list[str]:
        """A sentence for each kind of fault: the first names, and how many more there are."""
        return [sentence(kind, names, shown) for kind, names in self.faults.items()]


def verify(protocol: Protocol, root: Path) -> Verification:
    """Compare a copy with the official lists and counts.

    InvalidParameter when `root` is no folder; all else that is wrong is in the answer.
    """
    if not root.is_dir():
        raise InvalidParameter(f"{root} is not a folder")
    folder = protocol.locate(root)
    faults: dict[Fault, dict[str, None]] = {}
    tree = Tree(folder, faults)
    counts: tuple[Count, ...] = ()
    try:
        description = protocol.reader(protocol.card, tree)
    except InvalidParameter as error:
        tree.fault(Fault.BROKEN_LISTS, [str(error)])
    else:
        counts = _compare(protocol, tree, description)
    return Verification(
        protocol=protocol.card.name,
        folder=str(folder),
        faults={kind: tuple(faults[kind]) for kind in Fault if kind in faults},
        counts=counts,
    )


def other_counts(card: Card, description: Description) -> list[str]:
    """`300 train (official: 5717)` for each count of what was read that is not the official one."""
    found = description.counts()
    return [
        _told(found[what], what, official)
        for what, official in card.counts.items()
        if what in found and found[what] != {official}
    ]


def _told(found: Collection[int], what: str, official: int) -> str:
    return f"{' or '.join(map(str, sorted(found)))} {what} (official: {official})"


def _compare(protocol: Protocol, tree: Tree, description: Description) -> tuple[Count, ...]:
    check_files(tree, description)
    tree.note(Fault.EMPTY_IMAGES, tree.empty_images())
    if protocol.complete:
        named = {item.path for item in description.items}
        tree.note(Fault.EXTRA_IMAGES, [path for path in tree.images() if path not in named])
    tree.counts["image files"] = len(tree.images())
    found = description.counts() | {what: {count} for what, count in tree.counts.items()}
    counts = tuple(
        Count(what=what, official=official, found=tuple(sorted(found.get(what, {0}))))
        for what, official in protocol.card.counts.items()
    )
    wrong = [_told(c.found, c.what, c.official) for c in counts if not c.right]
    tree.note(Fault.COUNTS, wrong)
    return counts

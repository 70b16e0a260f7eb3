"""A table of paths and labels, of one's own: `labels.csv` beside or above the images."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from offshelf.datasets.protocols.image_folder import SIDES
from offshelf.datasets.protocols.interface import Card, Description, Item, Region, Split, register

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offshelf.datasets.protocols.interface import Metric
    from offshelf.datasets.protocols.tree import Tree

FILE: Final = "labels.csv"
SEPARATOR: Final = ";"
UNCOUNTED: Final = "?"
BOX: Final = ("left", "top", "right", "bottom")
ONE_LABEL: Final[tuple[Metric, ...]] = ("accuracy", "mean_class_accuracy")


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    labels: tuple[str, ...]
    side: str
    regions: tuple[Region, ...]


def read(card: Card, tree: Tree) -> Description:
    """Read the table; its columns are named in its first line, in any order."""
    rows, many = _rows(tree)
    names = {label.removeprefix(UNCOUNTED) if many else label for r in rows for label in r.labels}
    classes = tuple(sorted(names))
    repeated = len({row.path for row in rows}) < len(rows)
    items = [
        Item(
            key=f"{row.path}#{number}" if repeated else row.path,
            path=row.path,
            labels=_many(row.labels, classes) if many else (classes.index(row.labels[0]),),
            regions=row.regions,
        )
        for number, row in enumerate(rows, 1)
    ]
    sides = {
        side: tuple(n for n, row in enumerate(rows) if row.side == side)
        for side in ("train", "val", "test")
    }
    return Description(
        protocol=card.name,
        classes=classes,
        multi_label=many,
        metrics=("map_all_point", "map_11pt") if many else card.metrics,
        items=tuple(items),
        splits=(Split(name="table", **sides),),
    )


def _many(labels: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """1 for each class that is named, 0 for one named with a question mark, -1 for the others."""
    named, uncounted = set(labels), {label[1:] for label in labels if label.startswith(UNCOUNTED)}
    return tuple(1 if name in named else 0 if name in uncounted else -1 for name in classes)


def _rows(tree: Tree) -> tuple[list[_Row], bool]:
    """The rows, by path, and whether an image may have several labels."""
    # Line by line, as every list is read: no field of these tables holds a newline.
    lines = tree.lines(FILE)
    table = list(_cells(tree, lines))
    header = [name.lower() for name in table[0][1]] if table else []
    many = "labels" in header
    label = "labels" if many else "label"
    path = "file" if "file" in header else "path"
    if not {path, label} <= set(header):
        tree.broken(f"{FILE}:1", f"columns {', '.join(header)}; path and label are needed")
        return [], many
    found = []
    for place, cells in table[1:]:
        named = dict(zip(header, cells, strict=True))
        texts = named[label].split(SEPARATOR) if many else [named[label]]
        labels = tuple(text.strip() for text in texts if text.strip())
        side = SIDES.get(named.get("split", "train").lower(), "")
        if not side or not named[path] or (not labels and not many):
            tree.broken(place, "needs a path, a label and a split of train, val or test")
            continue
        found.append(_Row(named[path], labels, side, tuple(_box(tree, place, named))))
    return sorted(found, key=lambda row: row.path), many


def _cells(tree: Tree, lines: Sequence[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """(place, cells) of the lines that have as many cells as the first one."""
    columns = 0
    for place, line in lines:
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], strict=True))]
        except csv.Error as error:
            tree.broken(place, str(error))
            continue
        columns = columns or len(cells)
        if len(cells) == columns:
            yield place, cells
        else:
            tree.broken(place, f"{len(cells)} columns; the first line has {columns}")


def _box(tree: Tree, place: str, named: dict[str, str]) -> Iterator[Region]:
    """The region of a row that has a box; all of its columns are there or none."""
    if not set(BOX) <= named.keys() or not any(named[side] for side in BOX):
        return
    try:
        left, top, right, bottom = (float(named[side]) for side in BOX)
    except ValueError:
        tree.broken(place, "the box is not four numbers")
        return
    if all(map(math.isfinite, (left, top, right, bottom))) and left < right and top < bottom:
        yield Region(name="object", box=(left, top, right, bottom))
    else:
        tree.broken(place, "the box has no size, or no end")


register(
    Card(
        name="csv",
        title="A table of paths and labels",
        source="offshelf",
        layout=(
            f"{FILE}: columns path (or file) and label; or labels, set apart by '{SEPARATOR}'",
            "optional columns: split (train, val, test), left, top, right, bottom (pixels)",
        ),
        procedure="the table's own split; without one everything trains",
        metrics=ONE_LABEL,
        splits=1,
        counts={},
        surprises=(
            (
                "A column `labels` makes it multi-label and reports mean AP; in it '?name' is a "
                "label that does not count, and an empty cell is an image of no class."
            ),
        ),
    ),
    read,
    marks=(FILE,),
)

"""A confusion matrix as a heat map that works for three classes and for a thousand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.api.report.svg import Drawing, number, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from numpy.typing import NDArray

SIDE: Final = 660
# Few classes get cells of at most this size, so the picture is smaller.
MOST_CELL: Final = 44
# Labels need this much height each; with more classes numbers stand every so often.
LEAST_LABEL: Final = 8.5
LABEL_CHARS: Final = 20
CHAR_PX: Final = 0.62
FEW_CELLS: Final = 2000
LEVELS: Final = 10
FAINTEST: Final = 0.3
PAIRS: Final = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """Images of one class that were taken for another."""

    truth: str
    predicted: str
    count: int
    share: float


def pairs(counts: NDArray[np.int64], classes: Sequence[str], most: int = PAIRS) -> list[Pair]:
    """The wrong pairs with the most images; of equal ones, those of the larger share first."""
    shares = _shares(counts)
    rows, columns = np.nonzero(counts * ~np.eye(len(counts), dtype=bool))
    order = np.lexsort((-shares[rows, columns], -counts[rows, columns]))[:most]
    return [
        Pair(classes[i], classes[j], int(counts[i, j]), float(shares[i, j]))
        for i, j in zip(rows[order], columns[order], strict=True)
    ]


def heat_map(counts: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Rows are true classes, columns predicted ones; a cell is as dark as its share of the row.

    What is zero is not drawn, so the picture of many classes is small.
    """
    cell = min(MOST_CELL, SIDE / len(classes))
    labelled = cell >= LEAST_LABEL
    font = min(12.0, cell * 0.92)
    margin = _margin(classes, font) if labelled else 46.0
    side = cell * len(classes)
    whole = margin + side + 4
    drawing = Drawing(whole, whole, "Confusion matrix", "confusion")
    limits = f"max-width: {number(whole)}px; min-width: min({number(whole)}px, 30rem)"
    drawing.root.set("style", limits)
    drawing.add("rect", "ground", x=margin, y=margin, width=side, height=side)
    if labelled:
        _labels(drawing, classes, cell, margin, font)
    else:
        _numbers(drawing, len(classes), cell, margin)
    if np.count_nonzero(counts) <= FEW_CELLS:
        _cells(drawing, counts, classes, cell, margin)
    else:
        _levels(drawing, counts, cell, margin)
    return drawing.markup()


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _opacity(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """A small share is to be seen too: steps by the square root, and never too faint."""
    levels: NDArray[np.float64] = np.ceil(np.sqrt(share) * LEVELS) / LEVELS
    return np.maximum(levels, FAINTEST)


def _cells(
    drawing: Drawing, counts: NDArray[np.int64], classes: Sequence[str], cell: float, margin: float
) -> None:
    opacity = _opacity(_shares(counts))
    for i, j in zip(*np.nonzero(counts), strict=True):
        hint = f"{classes[i]} as {classes[j]}: {counts[i, j]}"
        place = {"x": margin + j * cell, "y": margin + i * cell, "width": cell, "height": cell}
        css = "right" if i == j else "wrong"
        drawing.add("rect", css, hint, fill_opacity=float(opacity[i, j]), **place)
        if cell >= 20:
            middle = {"x": margin + (j + 0.5) * cell, "y": margin + (i + 0.5) * cell}
            ink = "cell middle centre" + (" strong" if opacity[i, j] > 0.6 else "")
            drawing.text(f"{counts[i, j]}", middle["x"], middle["y"], ink)


def _levels(drawing: Drawing, counts: NDArray[np.int64], cell: float, margin: float) -> None:
    """One path for all cells of a colour and a level."""
    opacity = _opacity(_shares(counts))
    runs: dict[tuple[str, float], list[str]] = defaultdict(list)
    for i, j in zip(*np.nonzero(counts), strict=True):
        corner = f"M{number(margin + j * cell)} {number(margin + i * cell)}"
        css = "right" if i == j else "wrong"
        size = number(max(cell, 1.0))
        runs[css, float(opacity[i, j])].append(f"{corner}h{size}v{size}h-{size}z")
    for (css, level), parts in sorted(runs.items()):
        drawing.add("path", css, fill_opacity=level, d="".join(parts))


def _labels(
    drawing: Drawing, classes: Sequence[str], cell: float, margin: float, font: float
) -> None:
    size = f"{number(font)}px"
    for n, name in enumerate(classes):
        middle = margin + (n + 0.5) * cell
        short = shortened(name)
        drawing.text(short, margin - 5, middle, "tick end middle", name, font_size=size)
        turned = f"translate({number(middle)} {number(margin - 5)}) rotate(-90)"
        drawing.text(short, 0, 0, "tick middle", name, font_size=size, transform=turned)


def _numbers(drawing: Drawing, classes: int, cell: float, margin: float) -> None:
    """The numbers of the classes, from 1, as the table of classes has them."""
    for value in ticks(0, classes, 11)[1:]:
        middle = margin + (value - 0.5) * cell
        drawing.text(f"{value:g}", margin - 8, middle, "tick end middle")
        drawing.text(f"{value:g}", middle, margin - 8, "tick centre")


def _margin(classes: Sequence[str], font: float) -> float:
    return 12 + CHAR_PX * font * max(len(shortened(name)) for name in classes)


def shortened(name: str) -> str:
    """A name as a label."""
    return name if len(name) <= LABEL_CHARS else f"{name[: LABEL_CHARS - 1]}…"

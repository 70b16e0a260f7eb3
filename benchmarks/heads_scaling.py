"""How the time of one fit grows with images, dimensions and classes, as numbers and as a picture.

`python -m benchmarks.heads_scaling FILE.svg` fits the SVM and the logistic regression of
`benchmarks.heads` at growing sizes, ours and scikit-learn's in turn, and draws processor times:
those of two fits beside each other hardly depend on what else runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.heads import SINGLE_C, Problem, Taken, make, theirs
from benchmarks.loglog import Line, Panel, draw
from offshelf.engine.memory import keep_freed_memory
from offshelf.heads.recipe import Recipe, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.heads.solver.task import LossName

MIDDLE: Final = Problem("middle", 1500, 1024, 20)
SIZES: Final = {
    "images": (375, 750, 1500, 3000),
    "dimensions": (256, 512, 1024, 2048, 4096),
    "classes": (5, 20, 80),
}
LOSSES: Final[dict[LossName, str]] = {"softmax": "logistic regression", "squared_hinge": "SVM"}
TURNS: Final = 3


@dataclass(frozen=True)
class Measured:
    """Processor seconds of one fit, ours and theirs."""

    axis: str
    size: int
    loss: LossName
    ours: float
    theirs: float


def measure(axis: str, size: int, loss: LossName) -> Measured:
    """The median of ours, around one of theirs."""
    sizes = {"images": MIDDLE.images, "dimensions": MIDDLE.dimensions, "classes": MIDDLE.classes}
    X, target = make(Problem("scaled", **{**sizes, axis: size}))
    recipe = Recipe(loss, intercept="regularised" if loss == "squared_hinge" else "free")
    ours, other = [], 0.0
    for turn in range(TURNS):
        before = Taken.now()
        train(recipe, X, target, SINGLE_C)
        ours.append(Taken.since(before).processor)
        if turn == TURNS // 2:
            other = theirs(loss, X, target, SINGLE_C, threads=None)[0].processor
    return Measured(axis, size, loss, float(np.median(ours)), other)


def run() -> Iterator[Measured]:
    """Along each axis, all else as in the middle."""
    for axis, sizes in SIZES.items():
        for size in sizes:
            for loss in LOSSES:
                yield measure(axis, size, loss)


def panels(rows: list[Measured]) -> list[Panel]:
    """One an axis: ours and theirs of each loss."""
    made = []
    for axis in SIZES:
        lines = []
        for loss, name in LOSSES.items():
            points = [row for row in rows if (row.axis, row.loss) == (axis, loss)]
            sizes = [float(row.size) for row in points]
            lines.append(Line(f"{name}, offshelf", sizes, [row.ours for row in points]))
            lines.append(Line(f"{name}, scikit-learn", sizes, [row.theirs for row in points]))
        made.append(Panel(axis, "processor seconds of one fit", lines))
    return made


def main(path: Path) -> None:
    """Print a Markdown table and write the picture."""
    keep_freed_memory()
    rows = []
    print(
        "| axis | size | loss | offshelf, s | scikit-learn, s | ratio |\n|---|---|---|---|---|---|"
    )
    for row in run():
        rows.append(row)
        times = f"{row.ours:.2f} | {row.theirs:.2f} | {row.theirs / row.ours:.1f}"
        print(f"| {row.axis} | {row.size} | {LOSSES[row.loss]} | {times} |", flush=True)
    path.write_text(draw(panels(rows)))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "heads-scaling.svg"))

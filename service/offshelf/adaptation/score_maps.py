"""From the scores of windows to the scores of an image, and to maps of where the score is high."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

POWER: Final = 5.0  # k of Oquab et al. (CVPR 2014, section 4.3)


def image_scores(scores: NDArray[np.floating], power: float = POWER) -> Floats:
    """The scores (K,) of an image: the mean of y^k over its windows' probabilities (M, K)."""
    if not len(scores):
        raise InvalidParameter("an image without windows has no scores")
    if not power > 0:
        raise InvalidParameter(f"k is above 0, not {power}")
    found: Floats = np.mean(np.asarray(scores, np.float64) ** power, axis=0)
    return found


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """The score of each class at every pixel: the mean over all windows that cover it.

    It is constant between the edges of the windows, so it is kept as a table of cells, exactly:
    `values` (K, rows, columns), NaN where no window is. Cell (r, c) is the pixels from `ys[r]` up
    to `ys[r + 1]`, and from `xs[c]` up to `xs[c + 1]`.
    """

    xs: Ints
    ys: Ints
    values: Floats

    @classmethod
    def of(cls, windows: Ints, scores: NDArray[np.floating], width: int, height: int) -> ScoreMap:
        """The map of windows (M, 4) in an image of width x height pixels, and scores (M, K)."""
        if len(windows) != len(scores):
            raise InvalidParameter(f"{len(windows)} windows and {len(scores)} rows of scores")
        xs = np.unique(np.concatenate([windows[:, 0], windows[:, 2], [0, width]]))
        ys = np.unique(np.concatenate([windows[:, 1], windows[:, 3], [0, height]]))
        if xs[0] < 0 or ys[0] < 0 or xs[-1] > width or ys[-1] > height:
            raise InvalidParameter(f"a window leaves the image of {width} x {height} pixels")
        ones = np.ones((len(scores), 1))
        sums = _covering(np.hstack([np.asarray(scores, np.float64), ones]), windows, xs, ys)
        count = sums[-1]
        values = np.full_like(sums[:-1], np.nan)
        np.divide(sums[:-1], count, out=values, where=count > 0)
        return cls(xs, ys, values)

    @property
    def width(self) -> int:
        """Of the image, in pixels."""
        return int(self.xs[-1])

    @property
    def height(self) -> int:
        """Of the image, in pixels."""
        return int(self.ys[-1])

    def at_size(self, width: int, height: int, index: int) -> NDArray[np.float32]:
        """The map (height, width) of a class: the values at the centres of so many even pixels.

        At the image's own size it is the map itself.
        """
        columns = self._cells(self.xs, width)
        rows = self._cells(self.ys, height)
        pixels: NDArray[np.float32] = self.values[index].astype(np.float32)[rows[:, None], columns]
        return pixels

    def peak(self, index: int) -> tuple[float, float]:
        """Where a class scores highest, in pixels: the middle of the best cell (x, y).

        Of equal cells that are best, the first, row by row.
        """
        row, column = np.unravel_index(np.nanargmax(self.values[index]), self.values[index].shape)
        return (
            float(self.xs[column] + self.xs[column + 1]) / 2,
            float(self.ys[row] + self.ys[row + 1]) / 2,
        )

    @staticmethod
    def _cells(edges: Ints, count: int) -> Ints:
        """The cell in which each of `count` even pixels has its centre."""
        centres = (np.arange(count) + 0.5) * (edges[-1] / count)
        cells: Ints = np.searchsorted(edges, centres, side="right") - 1
        return cells


def _covering(values: Floats, windows: Ints, xs: Ints, ys: Ints) -> Floats:
    """The sums (K, rows, columns) of the windows' values (M, K) over the cells that they cover.

    Each window adds its values at its corners, with the signs of a two-dimensional difference;
    running sums along both axes fill it. Sums of many windows that end before a cell leave
    roundings of 1e-16 of their size there, and counts are whole numbers, so those are exact.
    """
    left, right = np.searchsorted(xs, windows[:, 0]), np.searchsorted(xs, windows[:, 2])
    top, bottom = np.searchsorted(ys, windows[:, 1]), np.searchsorted(ys, windows[:, 3])
    corners = np.zeros((len(ys), len(xs), values.shape[1]))
    for row, column, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1)):
        np.add.at(corners, (row, column), sign * values)
    np.add.at(corners, (bottom, right), values)
    sums = corners.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
    return np.moveaxis(sums, 2, 0)

"""Is the highest point of a score map on an object? Oquab et al.'s measure, and its baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.adaptation.labelling import areas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

# Pixels by which a point may miss a box (Oquab et al., CVPR 2015, section 5).
TOLERANCE: Final = 18.0


def hits(point: tuple[float, float], boxes: ArrayLike, tolerance: float = TOLERANCE) -> bool:
    """Whether a point (x, y) is in one of boxes (B, 4), or `tolerance` pixels beside at most."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    at = np.asarray(point)
    inside = (at >= corners[:, :2] - tolerance) & (at <= corners[:, 2:] + tolerance)
    return bool(inside.all(axis=1).any())


def chance(boxes: ArrayLike, width: int, height: int, tolerance: float = TOLERANCE) -> float:
    """How often a point drawn evenly from the image hits: the share of it that hits, exactly."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    grown = corners + np.array([-tolerance, -tolerance, tolerance, tolerance])
    inside = np.clip(grown, 0, [width, height, width, height])
    inside = inside[(inside[:, :2] < inside[:, 2:]).all(axis=1)]
    return _union(inside) / (width * height)


def _union(boxes: Floats) -> float:
    """The area that boxes cover together."""
    if len(boxes) < 2:
        return float(areas(boxes).sum())
    xs, ys = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    covered = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for left, top, right, bottom in boxes:
        rows = slice(np.searchsorted(ys, top), np.searchsorted(ys, bottom))
        covered[rows, np.searchsorted(xs, left) : np.searchsorted(xs, right)] = True
    return float(np.diff(ys) @ covered @ np.diff(xs))


@dataclass(frozen=True, slots=True)
class Pointing:
    """Pointing accuracy of one class: of `tried` images with the class, the share that was hit.

    `baseline` is the mean chance of a random point in the same images.
    """

    tried: int
    accuracy: float
    baseline: float

    @classmethod
    def of(cls, hit: Sequence[bool], chances: Sequence[float]) -> Pointing:
        """From the images that have the class; NaN of none."""
        if not hit:
            return cls(0, float("nan"), float("nan"))
        return cls(len(hit), float(np.mean(hit)), float(np.mean(chances)))

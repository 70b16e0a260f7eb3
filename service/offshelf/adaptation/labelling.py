"""Which class a window shows, from the boxes of the objects in its image.

Oquab et al. (CVPR 2014, section 4.2): a window P is labelled o if some box B of class o has
|P and B| >= 0.2 |P| and |P and B| >= 0.6 |B|; a window with two labels is left out, one with none
is background, of which a random tenth is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

BACKGROUND: Final = -1
LEFT_OUT: Final = -2


@dataclass(frozen=True, slots=True)
class Rule:
    """How much of the window, and of the object, must be shared; and how much background stays."""

    of_window: float = 0.2
    of_object: float = 0.6
    background: float = 0.1

    def __post_init__(self) -> None:
        for name in ("of_window", "of_object", "background"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidParameter(f"{name} is a fraction, not {getattr(self, name)}")

    def labels(self, windows: ArrayLike, boxes: ArrayLike, classes: ArrayLike) -> Ints:
        """The class index of each window (M,), BACKGROUND or LEFT_OUT.

        `windows` (M, 4) and `boxes` (B, 4) are left, top, right, bottom; `classes` (B,) the class
        indices of the boxes. Several boxes of one class are one label.
        """
        squares, objects = _corners(windows, "windows"), _corners(boxes, "boxes")
        known = np.asarray(classes, np.int64)
        if known.shape != (len(objects),) or (known < 0).any():
            raise InvalidParameter(f"there are {len(objects)} boxes: a class from 0 for each")
        shared = intersections(squares, objects)
        fits = (shared >= self.of_window * areas(squares)[:, None] - _SLACK) & (
            shared >= self.of_object * areas(objects)[None] - _SLACK
        )
        fits &= shared > 0
        lowest = np.where(fits, known, np.iinfo(np.int64).max).min(axis=1, initial=2**62)
        highest = np.where(fits, known, BACKGROUND).max(axis=1, initial=BACKGROUND)
        several = (highest > BACKGROUND) & (lowest < highest)
        return np.where(several, LEFT_OUT, highest)

    def kept(self, labels: Ints, rng: np.random.Generator) -> Ints:
        """The numbers of the windows that train, ascending: every object, some background."""
        background = labels == BACKGROUND
        drawn = rng.random(len(labels)) < self.background
        return np.flatnonzero((labels >= 0) | (background & drawn))


# Areas are products of pixels: a fraction that is met exactly must not fail by a rounding.
_SLACK: Final = 1e-6


def intersections(a: Floats, b: Floats) -> Floats:
    """The shared areas (M, B) of boxes (M, 4) and (B, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: Floats = np.clip(high - low, 0, None).prod(axis=2)
    return shared


def areas(boxes: Floats) -> Floats:
    """The areas (M,) of boxes (M, 4)."""
    found: Floats = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return found


def _corners(boxes: ArrayLike, what: str) -> Floats:
    table = np.asarray(boxes, np.float64)
    if table.size == 0:
        return np.zeros((0, 4))
    if table.ndim != 2 or table.shape[1] != 4 or not (table[:, :2] < table[:, 2:]).all():
        raise InvalidParameter(f"{what} are rows of left, top, right, bottom, left before right")
    return table

"""Where pixels go: which rectangle of an image, at which size, becomes network input.

The rounding is torchvision's (`functional.resize`, `functional.center_crop` of torchvision 0.26):
features must equal those of the usual torchvision pipeline to the pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from offshelf.core.spec import Preprocessing, ViewName

# left, top, right, bottom in pixels; 0 is the outer edge of the first pixel.
Edges: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Resize the image to `size` (width, height), then cut `crop` (left, top, right, bottom)."""

    size: tuple[int, int]
    crop: tuple[int, int, int, int]


def place(view: ViewName, pre: Preprocessing, width: int, height: int) -> Placement:
    """How an image of width x height pixels becomes one pre.crop x pre.crop input.

    `center`: the weights' own preset, short side to `pre.resize`, centre crop.
    `warp`: DeCAF's (arXiv:1310.1531, section 3), both sides to `pre.resize`, centre crop.
    """
    size = (pre.resize, pre.resize) if view == "warp" else fit_short(width, height, pre.resize)
    return Placement(size, center_box(*size, pre.crop))


def fit_short(width: int, height: int, side: int) -> tuple[int, int]:
    """The size whose short side is `side` pixels with the aspect kept (the long one floored)."""
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def center_box(width: int, height: int, side: int) -> tuple[int, int, int, int]:
    """The central square of `side` pixels; half pixels round to even, as in torchvision."""
    left, top = round((width - side) / 2.0), round((height - side) / 2.0)
    return left, top, left + side, top + side


def whole_pixels(box: Edges, width: int, height: int) -> tuple[int, int, int, int] | None:
    """The pixels of an image that a box touches, as left, top, right, bottom; None for none."""
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    return (left, top, right, bottom) if left < right and top < bottom else None

"""Where pixels go: which rectangle of an image, at which size, becomes network input.

The rounding is torchvision's (`functional.resize`, `functional.center_crop` of torchvision 0.26):
features must equal those of the usual torchvision pipeline to the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offshelf.core.spec import Preprocessing, ViewName


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

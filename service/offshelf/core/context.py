"""Boxes with what is around them: R-CNN's warp with context, and squares that may leave the image.

Both say which part of the image is taken and where it comes to lie in the network's input; what
the image does not have is filled by the one who cuts (R-CNN: the mean; Oquab et al.: mirrored).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from offshelf.core.boxes import Box
    from offshelf.core.geometry import Box as Pixels

RCNN_PADDING: Final = 16  # pixels of the network's input (R-CNN, arXiv:1311.2524, appendix A)


@dataclass(frozen=True, slots=True)
class Pasted:
    """`source` of the image, resized to `size`, lies at `offset` of an input; the rest is fill."""

    source: Pixels
    size: tuple[int, int]
    offset: tuple[int, int]


def rcnn_warp(box: Box, width: int, height: int, side: int, padding: int = RCNN_PADDING) -> Pasted:
    """R-CNN's warp of a box to an input of `side` pixels with `padding` pixels of context.

    It is the released code's (`rcnn_im_crop.m`), rounding included, which counts pixels from 1 and
    takes the end of a box as its last pixel; here a box of pixels 50..149 is (49, ..., 149). The
    aspect is ignored. Raises InvalidParameter for a box outside the image, or too much padding.
    """
    if not 0 <= 2 * padding < side:
        raise InvalidParameter(f"padding {padding} leaves nothing of an input of {side} pixels")
    scale = side / (side - 2 * padding)
    across = _side(box[0], box[2], width, side, scale)
    down = _side(box[1], box[3], height, side, scale)
    if across is None or down is None:
        raise InvalidParameter(f"the box {box} lies outside the image of {width} x {height} pixels")
    return Pasted(
        (across.first, down.first, across.last, down.last),
        (across.length, down.length),
        (across.offset, down.offset),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    first: int
    last: int
    length: int
    offset: int


def _side(low: float, high: float, limit: int, side: int, scale: float) -> _Side | None:
    """One axis of the warp; None where the box shows no pixel. Pixels are counted from 1 inside."""
    half = (high - low) / 2
    centre = low + 1 + half
    first, last = _round(centre - half * scale), _round(centre + half * scale)
    unclipped = last - first + 1
    from_, to = max(1, first), min(limit, last)
    if high <= low or from_ > to:
        return None
    zoom = side / unclipped
    offset = _round(max(0, 1 - first) * zoom)
    length = max(1, min(_round((to - from_ + 1) * zoom), side - offset))
    return _Side(from_ - 1, to, length, min(offset, side - 1))


def _round(value: float) -> int:
    """MATLAB's: halves go away from zero."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def square_around(box: Box, scale: float = 1.0) -> Pixels:
    """The square on the longer side of a box, `scale` times as large, around its centre.

    It may leave the image: Oquab et al. (CVPR 2014, section 6.2) take such a patch for an action,
    and mirror the image there.
    """
    if not (box[0] < box[2] and box[1] < box[3] and scale > 0):
        raise InvalidParameter(f"a box has its left before its right: {box}; scale above 0")
    side = max(1, round(scale * max(box[2] - box[0], box[3] - box[1])))
    left = round((box[0] + box[2] - side) / 2)
    top = round((box[1] + box[3] - side) / 2)
    return left, top, left + side, top + side

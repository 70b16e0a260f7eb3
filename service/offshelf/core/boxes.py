"""Boxes as annotations give them, and the pixels that they show."""

from __future__ import annotations

import math
from typing import TypeAlias

# left, top, right, bottom in pixels; 0 is the outer edge of the first pixel.
Box: TypeAlias = tuple[float, float, float, float]


def whole_pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int] | None:
    """The pixels of an image that a box touches, as left, top, right, bottom; None for none."""
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    return (left, top, right, bottom) if left < right and top < bottom else None

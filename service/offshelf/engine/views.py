"""Cuts a decoded image into network inputs, to the pixel as torchvision does on PIL images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from offshelf.core.geometry import Placement, place

if TYPE_CHECKING:
    from offshelf.core.spec import Interpolation, Preprocessing, ViewName
    from offshelf.engine.interface import Inputs

_FILTERS: Final[dict[Interpolation, Image.Resampling]] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# Source pixels beside a cut that a filter may reach, at any scale up to its own.
_REACH: Final = 4
# A resized image of more pixels (aspect ratio about 1 : 250) is never made whole.
MAX_RESIZED_PIXELS: Final = 1 << 24


def view(image: Image.Image, name: ViewName, pre: Preprocessing) -> Inputs:
    """The inputs that a view makes of an RGB image; both views give one (1, crop, crop, 3)."""
    placement = place(name, pre, *image.size)
    resample = _FILTERS[pre.interpolation]
    width, height = placement.size
    if width * height > MAX_RESIZED_PIXELS:
        cut = _strip(image, placement, resample)
    else:
        resized = image if image.size == placement.size else image.resize((width, height), resample)
        cut = resized.crop(placement.crop)
    return (np.array(cut, dtype=np.uint8)[np.newaxis],)


def _strip(image: Image.Image, placement: Placement, resample: Image.Resampling) -> Image.Image:
    """The crop of an extremely long image, made from the part of it that the crop shows.

    Equal to the whole way round but for the rounding of single pixels.
    """
    left, top, right, bottom = placement.crop
    scale_x = image.width / placement.size[0]
    scale_y = image.height / placement.size[1]
    margin_x, margin_y = _REACH * max(1.0, scale_x), _REACH * max(1.0, scale_y)
    from_x = max(0, int(left * scale_x - margin_x))
    from_y = max(0, int(top * scale_y - margin_y))
    to_x = min(image.width, int(right * scale_x + margin_x) + 1)
    to_y = min(image.height, int(bottom * scale_y + margin_y) + 1)
    box = (
        left * scale_x - from_x,
        top * scale_y - from_y,
        min(right * scale_x - from_x, to_x - from_x),
        min(bottom * scale_y - from_y, to_y - from_y),
    )
    part = image.crop((from_x, from_y, to_x, to_y))
    return part.resize((right - left, bottom - top), resample, box=box)

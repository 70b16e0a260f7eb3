"""Cuts a decoded image into network inputs, to the pixel as torchvision does on PIL images."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from offshelf.core.geometry import Placement, places
from offshelf.errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import Hashable

    from offshelf.core.spec import Interpolation, Preprocessing
    from offshelf.core.view import View
    from offshelf.engine.interface import Inputs, Pixels

_FILTERS: Final[dict[Interpolation, Image.Resampling]] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_MIRRORED: Final = Image.Transpose.FLIP_LEFT_RIGHT
_UPSIDE_DOWN: Final = Image.Transpose.FLIP_TOP_BOTTOM
# Source pixels beside a cut that a filter may reach, at any scale up to its own.
_REACH: Final = 4
# A resized image of more pixels (aspect ratio about 1 : 250) is never made whole.
MAX_RESIZED_PIXELS: Final = 1 << 24
# What one input of a dense view may have: at 768 pixels an aspect ratio of 1 : 3.5, at 512 one of
# 1 : 8. The first maps of VGG-16 then take half a gigabyte.
MAX_DENSE_PIXELS: Final = 1 << 21


def view(image: Image.Image, wanted: View, pre: Preprocessing) -> Inputs:
    """The inputs that a view makes of an RGB image, stacked by size, in the order of `places`.

    Raises TooLarge where a dense view of a very long image would be beyond measure.
    """
    cutter = _Cutter(_changed(image, wanted, pre), pre)
    cuts = [cutter.cut(place) for place in places(wanted, pre, *image.size)]
    if len(cuts) == 1:
        return (cuts[0][np.newaxis],)
    return tuple(np.stack(list(same)) for _, same in itertools.groupby(cuts, lambda cut: cut.shape))


def _changed(image: Image.Image, wanted: View, pre: Preprocessing) -> Image.Image:
    """The image as the view's changes leave it."""
    if wanted.hflip:
        image = image.transpose(_MIRRORED)
    if wanted.vflip:
        image = image.transpose(_UPSIDE_DOWN)
    return _rotated(image, wanted.rotation, pre) if wanted.rotation else image


def _rotated(image: Image.Image, degrees: float, pre: Preprocessing) -> Image.Image:
    """Rotated counter-clockwise about its centre; the corners that come in have the mean colour.

    It is torchvision's `rotate` of an image with `fill`, bilinear.
    """
    mean = tuple(round(255 * value) for value in pre.mean)
    return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=mean)


class _Cutter:
    """Makes the cuts of one image; what several of them come from is made once."""

    def __init__(self, image: Image.Image, pre: Preprocessing) -> None:
        self._image = image
        self._pre = pre
        self._resample = _FILTERS[pre.interpolation]
        self._made: dict[Hashable, Image.Image] = {}

    def cut(self, place: Placement) -> Pixels:
        """One input (H, W, 3)."""
        _check_area(self._image, place)
        if place.size[0] * place.size[1] > MAX_RESIZED_PIXELS:
            part = _strip(self._source(place), place, self._resample)
        else:
            part = self._resized(place).crop(place.crop)
        return np.array(part.transpose(_MIRRORED) if place.mirrored else part, dtype=np.uint8)

    def _source(self, place: Placement) -> Image.Image:
        if not place.degrees:
            return self._image
        if place.degrees not in self._made:
            self._made[place.degrees] = _rotated(self._image, place.degrees, self._pre)
        return self._made[place.degrees]

    def _resized(self, place: Placement) -> Image.Image:
        key = (place.size, place.source, place.degrees)
        if key not in self._made:
            source = self._source(place)
            source = source if place.source is None else source.crop(place.source)
            same = source.size == place.size
            self._made[key] = source if same else source.resize(place.size, self._resample)
        return self._made[key]


def _check_area(image: Image.Image, place: Placement) -> None:
    left, top, right, bottom = place.crop
    if (right - left) * (bottom - top) > MAX_DENSE_PIXELS:
        raise TooLarge(
            f"the image of {image.width} x {image.height} pixels would make a dense input of "
            f"{place.size[0]} x {place.size[1]}, and the limit is {MAX_DENSE_PIXELS} pixels: "
            "crop it, or ask for a smaller short side or another view"
        )


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

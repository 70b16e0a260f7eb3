"""Cuts a region out of a decoded image, before any view sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.core.boxes import whole_pixels
from offshelf.errors import InvalidImage

if TYPE_CHECKING:
    from PIL import Image

    from offshelf.core.boxes import Box


def cut(image: Image.Image, box: Box | None) -> Image.Image:
    """The part of an image that a box shows; None is all of it.

    The box ends where the image does: no pixel is invented. Raises InvalidImage for a box that
    lies outside.
    """
    if box is None:
        return image
    pixels = whole_pixels(box, *image.size)
    if pixels is None:
        raise InvalidImage(
            f"the box {box} lies outside the image of {image.width} x {image.height} pixels"
        )
    return image.crop(pixels)

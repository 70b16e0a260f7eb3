"""Where pixels go: which rectangle of an image, at which size, becomes network input.

The rounding is torchvision's (`functional.resize`, `center_crop` and `five_crop` of torchvision
0.26): features must equal those of the usual torchvision pipeline to the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from offshelf.core.spec import Preprocessing
    from offshelf.core.view import View

Size: TypeAlias = tuple[int, int]  # width, height
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Placement:
    """How one input is made, step by step.

    Rotate the image by `degrees` about its centre (counter-clockwise, its size kept), take the
    `source` part of it (None: all), resize that to `size`, cut `crop` out of it, and mirror what
    was cut where it is to be `mirrored`.
    """

    size: Size
    crop: Box
    source: Box | None = None
    degrees: float = 0.0
    mirrored: bool = False


def places(view: View, pre: Preprocessing, width: int, height: int) -> tuple[Placement, ...]:
    """How an image of width x height pixels becomes the inputs of a view, in their order.

    `center`: the weights' own preset, short side to `pre.resize`, centre crop.
    `warp`: DeCAF's (arXiv:1310.1531, section 3), both sides to `pre.resize`, centre crop.
    `squash`: both sides to `pre.crop`.
    `five_crop`: of the preset's resize the corners (top left, top right, bottom left, bottom
    right) and the centre. `ten_crop`: these, then those of the mirrored image.
    `multi_scale`: at each short side the centre crop. `dense`, `maps`: at each short side all of
    it.
    `razavian`: CNNaug of Razavian et al. (CVPRW 2014): the image, five crops of 4/9
    of its area (2/3 of each side, ordered as above), and the image rotated by +DEG and -DEG,
    each squashed to the input; then the mirrored copies of these eight.
    The mirrored copies that `+mirror` adds come after the inputs of the same size.
    """
    found = _places(view, pre, width, height)
    if not view.mirror:
        return found
    copies = tuple(replace(place, mirrored=not place.mirrored) for place in found)
    if view.is_dense:
        return tuple(place for pair in zip(found, copies, strict=True) for place in pair)
    return found + copies


def _places(view: View, pre: Preprocessing, width: int, height: int) -> tuple[Placement, ...]:
    if view.kind == "razavian":
        return _razavian(view.degrees, pre.crop, width, height)
    if view.sides:
        sizes = [fit_short(width, height, side) for side in view.sides]
        return tuple(
            Placement(size, _whole(size) if view.is_dense else center_box(*size, pre.crop))
            for size in sizes
        )
    if view.kind == "squash":
        return (_squashed(pre.crop),)
    short = fit_short(width, height, pre.resize)
    size = (pre.resize, pre.resize) if view.kind == "warp" else short
    if view.kind in ("center", "warp"):
        return (Placement(size, center_box(*size, pre.crop)),)
    return _crops(size, pre.crop, mirrored=view.kind == "ten_crop")


def fit_short(width: int, height: int, side: int) -> Size:
    """The size whose short side is `side` pixels with the aspect kept (the long one floored)."""
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def center_box(width: int, height: int, side: int) -> Box:
    """The central square of `side` pixels; half pixels round to even, as in torchvision."""
    left, top = round((width - side) / 2.0), round((height - side) / 2.0)
    return left, top, left + side, top + side


def five_boxes(size: Size, crop: Size) -> tuple[Box, ...]:
    """Corners and centre in torchvision's order, each of `crop` width and height."""
    (width, height), (wide, high) = size, crop
    right, bottom = width - wide, height - high
    middle = round(right / 2.0), round(bottom / 2.0)
    corners = ((0, 0), (right, 0), (0, bottom), (right, bottom), middle)
    return tuple((left, top, left + wide, top + high) for left, top in corners)


def _crops(size: Size, side: int, *, mirrored: bool) -> tuple[Placement, ...]:
    boxes = five_boxes(size, (side, side))
    plain = tuple(Placement(size, box) for box in boxes)
    if not mirrored:
        return plain
    # torchvision mirrors the image first: its top-left crop then shows our top-right corner.
    return plain + tuple(Placement(size, _flipped(box, size[0]), mirrored=True) for box in boxes)


def _flipped(box: Box, width: int) -> Box:
    """Where a box of the mirrored image is in the image."""
    left, top, right, bottom = box
    return width - right, top, width - left, bottom


def _razavian(degrees: float, side: int, width: int, height: int) -> tuple[Placement, ...]:
    whole = _squashed(side)
    part = max(1, round(width * 2 / 3)), max(1, round(height * 2 / 3))
    plain = (
        whole,
        *(replace(whole, source=box) for box in five_boxes((width, height), part)),
        *(replace(whole, degrees=angle) for angle in (degrees, -degrees)),
    )
    return plain + tuple(replace(place, mirrored=True) for place in plain)


def _squashed(side: int) -> Placement:
    return Placement((side, side), _whole((side, side)))


def _whole(size: Size) -> Box:
    return (0, 0, *size)

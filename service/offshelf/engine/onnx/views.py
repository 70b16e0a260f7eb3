"""A view as ONNX nodes: from whole images of any size to network inputs, to the pixel.

Pillow resizes with two matrix products, one an axis, whose weights it rounds to 22 bits, and rounds
to bytes after each. Here the weights are computed in the graph from the size of the image, only
for the pixels that the crop keeps. All of it is in float64, where such sums of bytes are exact.

Which axis comes first matters to single pixels. Older Pillows always begin with the rows; newer
ones begin with the columns where an image loses more than twice as many rows as columns. The graph
does as the Pillow does that is here when it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offshelf.core.spec import Interpolation, Preprocessing
    from offshelf.core.view import View
    from offshelf.engine.onnx.nodes import Nodes

# Pillow's fixed point: of 32 bits 8 are the byte's, and 2 keep sums from overflowing.
WEIGHT_STEPS: Final = 1 << 22
CUBIC: Final = -0.5  # Keys' parameter, as Pillow has it
EXPORTED: Final = "center, warp, squash, five_crop, ten_crop, multi_scale"

# The corners and the centre of `core.geometry.five_boxes`, as parts of the free space.
_CORNERS: Final = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))
_MIDDLE: Final = ((0.5, 0.5),)


@dataclass(frozen=True, slots=True)
class Cut:
    """One input: the image resized, then a square cut from the free space at `x` and `y`.

    `x` and `y` are 0 (left, top), 0.5 (centre) or 1. `keep_aspect` resizes the short side to
    `side`; else both sides are. `of_mirrored` cuts from the mirrored image, `mirrored` mirrors
    what was cut: they differ where the centre is between two pixels.
    """

    side: int
    keep_aspect: bool
    x: float
    y: float
    of_mirrored: bool = False
    mirrored: bool = False


def check_exported(view: View) -> None:
    """InvalidParameter for a view that has no ONNX form."""
    if view.kind in ("dense", "razavian") or view.rotation:
        what = "+rotate" if view.rotation else view.kind
        raise InvalidParameter(
            f"view {view} cannot be exported with its preprocessing: {what} has no ONNX form. "
            f"Views that have: {EXPORTED}, each with any of +hflip, +vflip, +mirror. The formats "
            "safetensors, python and onnx hold the head alone, whatever its view"
        )


def cuts_of(view: View, pre: Preprocessing) -> list[Cut]:
    """The inputs of a view, in the order of `core.geometry.places`."""
    check_exported(view)
    found = list(_cuts(view, pre))
    return found + [replace(cut, mirrored=True) for cut in found] if view.mirror else found


def _cuts(view: View, pre: Preprocessing) -> Iterator[Cut]:
    sides = view.sides or (pre.crop if view.kind == "squash" else pre.resize,)
    keep_aspect = view.kind not in ("warp", "squash")
    corners = _CORNERS if view.kind in ("five_crop", "ten_crop") else _MIDDLE
    for of_mirrored in (False, True) if view.kind == "ten_crop" else (False,):
        for side in sides:
            yield from (Cut(side, keep_aspect, x, y, of_mirrored) for x, y in corners)


def orders_by_size() -> bool:
    """Whether the Pillow that is here begins with the columns of a tall image."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 3, 3), np.uint8)
    tall = Image.fromarray(noise)
    columns_first = tall.resize((3, 7), Image.Resampling.BILINEAR)
    columns_first = columns_first.resize((7, 7), Image.Resampling.BILINEAR)
    return columns_first == tall.resize((7, 7), Image.Resampling.BILINEAR)


def add_view(nodes: Nodes, images: str, view: View, pre: Preprocessing) -> str:
    """Add a view of `images` (N, H, W, 3) uint8; the name of its (N, k, 3, S, S) float32.

    Values are whole numbers from 0 to 255, R, G and B in their order.
    """
    maker = _Maker(nodes, images, view, pre)
    inputs = [maker.cut(cut) for cut in cuts_of(view, pre)]
    stacked = nodes.op("Concat", *inputs, axis=1) if len(inputs) > 1 else inputs[0]
    return nodes.cast(stacked, np.float32)


class _Maker:
    """Adds the nodes of the cuts of one image; scalars are float64 in the graph."""

    def __init__(self, nodes: Nodes, images: str, view: View, pre: Preprocessing) -> None:
        self._nodes = nodes
        self._view = view
        self._pre = pre
        self._by_size = orders_by_size()
        planes = nodes.op("Transpose", images, perm=[0, 3, 1, 2])
        self._planes = nodes.cast(planes, np.float64)
        self._height = self._length(planes, 2)
        self._width = self._length(planes, 3)

    def cut(self, cut: Cut) -> str:
        """One input of every image, (N, 1, 3, S, S) float64."""
        wide, high = self._size(cut)
        left = self._start(wide, cut.x, backwards=cut.of_mirrored)
        right_first = cut.mirrored != cut.of_mirrored
        across = self._weights(self._width, wide, left, self._view.hflip, right_first)
        down = self._weights(self._height, high, self._start(high, cut.y), self._view.vflip)
        both = self._resized(self._loses_rows(wide, high), down, across)
        return self._nodes.op("Unsqueeze", both, self._nodes.constant([1]))

    def _resized(self, tall: str, down: str, across: str) -> str:
        across = self._nodes.op("Transpose", across, perm=[1, 0])

        def rows_first(nodes: Nodes) -> str:
            rows = _bytes(nodes, nodes.op("MatMul", self._planes, across))
            return _bytes(nodes, nodes.op("MatMul", down, rows))

        def columns_first(nodes: Nodes) -> str:
            columns = _bytes(nodes, nodes.op("MatMul", down, self._planes))
            return _bytes(nodes, nodes.op("MatMul", columns, across))

        if not self._by_size:
            return rows_first(self._nodes)
        return self._nodes.either(tall, columns_first, rows_first)

    def _loses_rows(self, wide: str, high: str) -> str:
        """Whether more than twice as many rows are lost as columns, and any at all."""
        op, constant = self._nodes.op, self._nodes.constant
        columns = op("Mul", op("Sub", self._width, wide), constant(2.0))
        least = op("Max", columns, constant(0.0))
        return op("Squeeze", op("Greater", op("Sub", self._height, high), least))

    def _length(self, planes: str, axis: int) -> str:
        length = self._nodes.op("Shape", planes, start=axis, end=axis + 1)
        return self._nodes.cast(length, np.float64)

    def _size(self, cut: Cut) -> tuple[str, str]:
        """Width and height of the resized image, as `core.geometry.fit_short` rounds them."""
        side, op = self._nodes.constant(float(cut.side)), self._nodes.op
        if not cut.keep_aspect:
            return side, side
        upright = op("LessOrEqual", self._width, self._height)
        wide = op("Floor", op("Div", op("Mul", side, self._width), self._height))
        high = op("Floor", op("Div", op("Mul", side, self._height), self._width))
        return op("Where", upright, side, wide), op("Where", upright, high, side)

    def _start(self, size: str, place: float, *, backwards: bool = False) -> str:
        """Where a cut begins on an axis; half pixels round to even, `backwards` from the end."""
        op, constant = self._nodes.op, self._nodes.constant
        free = op("Sub", size, constant(float(self._pre.crop)))
        start = op("Round", op("Mul", free, constant(place)))
        return op("Sub", free, start) if backwards else start

    def _weights(
        self, length: str, size: str, start: str, flipped: bool, last_first: bool = False
    ) -> str:
        """Pillow's weights (S, length) of the source pixels for each pixel of the cut."""
        op, constant = self._nodes.op, self._nodes.constant
        kept = np.arange(self._pre.crop, dtype=np.float64) + 0.5
        places = op("Add", start, constant(kept[::-1].copy() if last_first else kept))
        scale = op("Div", length, size)
        centres = op("Unsqueeze", op("Mul", places, scale), constant([1]))
        source = op("Add", self._pixels(length, flipped), constant(0.5))
        reach = op("Max", scale, constant(1.0))
        distances = op("Abs", op("Div", op("Sub", source, centres), reach))
        weights = _FILTERS[self._pre.interpolation](self._nodes, distances)
        whole = op("ReduceSum", weights, constant([1]))
        return _fixed(self._nodes, op("Div", weights, whole))

    def _pixels(self, length: str, flipped: bool) -> str:
        """The numbers of the source pixels; backwards where the image is flipped."""
        op, constant = self._nodes.op, self._nodes.constant
        numbers = op("Range", constant(0.0), op("Squeeze", length), constant(1.0))
        return op("Sub", op("Sub", length, constant(1.0)), numbers) if flipped else numbers


def _fixed(nodes: Nodes, weights: str) -> str:
    """In steps of Pillow's fixed point; half a step goes away from zero."""
    steps = nodes.op("Mul", weights, nodes.constant(float(WEIGHT_STEPS)))
    size = nodes.op("Floor", nodes.op("Add", nodes.op("Abs", steps), nodes.constant(0.5)))
    return nodes.op("Mul", nodes.op("Sign", steps), size)


def _bytes(nodes: Nodes, sums: str) -> str:
    """Sums of bytes in fixed point as whole bytes again."""
    rounded = nodes.op("Add", sums, nodes.constant(WEIGHT_STEPS / 2))
    scaled = nodes.op("Div", rounded, nodes.constant(float(WEIGHT_STEPS)))
    return nodes.op("Clip", nodes.op("Floor", scaled), nodes.constant(0.0), nodes.constant(255.0))


def _triangle(nodes: Nodes, distances: str) -> str:
    """1 - |x| within 1."""
    one = nodes.constant(1.0)
    return nodes.op("Max", nodes.op("Sub", one, distances), nodes.constant(0.0))


def _keys(nodes: Nodes, distances: str) -> str:
    """Keys' cubic: one polynomial within 1, another within 2, and nothing beyond."""
    op, constant = nodes.op, nodes.constant

    def cubic(highest: float, *others: float) -> str:
        """A polynomial by Horner's rule."""
        value = constant(highest)
        for coefficient in others:
            value = op("Add", op("Mul", value, distances), constant(coefficient))
        return value

    near = cubic(CUBIC + 2, -(CUBIC + 3), 0.0, 1.0)
    far = cubic(CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC)
    outside = op("Where", op("Less", distances, constant(2.0)), far, constant(0.0))
    return op("Where", op("Less", distances, constant(1.0)), near, outside)


_FILTERS: Final[dict[Interpolation, Callable[[Nodes, str], str]]] = {
    "bilinear": _triangle,
    "bicubic": _keys,
}

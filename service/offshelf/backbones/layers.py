"""Networks that are a plain row of layers, as data: their taps follow by arithmetic.

The networks before 2015 are such rows. A `Row` is what a prototxt says of one; `networks/row.py`
builds it, and `taps` computes shapes, strides and receptive fields from the same lines, so that
card and network cannot disagree. Free of torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from offshelf.backbones.interface import Tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution with a bias; a ReLU follows."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Norm:
    """Local response normalisation across channels (Krizhevsky et al., NIPS 2012, section 3.3).

    x / (k + alpha / size * sum of squares over `size` channels) ** 0.75, as Caffe has it; the
    paper's own alpha is not divided by the size. The power is the same in all of these networks.
    """

    k: float = 1.0
    alpha: float = 1e-4
    size: int = 5


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum pooling without padding; Caffe's sizes are rounded up."""

    kernel: int = 3
    stride: int = 2

    def side(self, side: int) -> int:
        """The side of the map that comes out of one of `side`."""
        return -(-(side - self.kernel) // self.stride) + 1


@dataclass(frozen=True, slots=True)
class Full:
    """An inner product with a bias; a ReLU follows, except after the last one.

    The first one reads its map in the order C, H, W.
    """

    width: int


Layer: TypeAlias = Conv | Norm | Pool | Full


@dataclass(frozen=True, slots=True)
class Row:
    """A network: its layers by their names in the prototxt, and the side of its input in pixels.

    The last layer is `Full` and gives the class scores.
    """

    side: int
    layers: Mapping[str, Layer]

    @property
    def scores(self) -> str:
        """The name of the last layer."""
        return list(self.layers)[-1]

    def with_layers(self, **changed: Layer) -> Row:
        """The same row with some layers exchanged for others of the same names."""
        return Row(self.side, {**self.layers, **changed})

    def without(self, name: str) -> Row:
        """The same row with one layer left out."""
        return Row(self.side, {n: layer for n, layer in self.layers.items() if n != name})

    def with_scores(self, name: str, width: int) -> Row:
        """The same body under another last layer: `width` classes."""
        return Row(self.side, {**self.without(self.scores).layers, name: Full(width)})


def relu_name(name: str) -> str:
    """The ReLU after a layer: `relu1` after `conv1`, `relu6` after `fc6`."""
    return "relu" + re.sub(r"^\D+", "", name)


def taps(row: Row) -> tuple[Tap, ...]:
    """The taps of a row, in its order; the last layer's is `logits`."""
    return tuple(_taps(row))


def _taps(row: Row) -> Iterator[Tap]:
    channels, side, stride, field, offset = CHANNELS, row.side, 1, 1, 0.0
    for name, layer in row.layers.items():
        match layer:
            case Conv():
                field += (layer.kernel - 1) * stride
                offset += ((layer.kernel - 1) / 2 - layer.padding) * stride
                stride *= layer.stride
                channels = layer.channels
                side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
                shape = (channels, side, side)
                yield Tap(name, relu_name(name), shape, stride, field, pre=True, offset=offset)
            case Pool():
                field += (layer.kernel - 1) * stride
                offset += (layer.kernel - 1) / 2 * stride
                stride *= layer.stride
                side = layer.side(side)
                yield Tap(name, name, (channels, side, side), stride, field, offset=offset)
            case Norm():
                shape = (channels, side, side)
                yield Tap(name, f"{name}.mul_1", shape, stride, field, offset=offset)
            case Full(width):
                field, offset = field + (side - 1) * stride, offset + (side - 1) / 2 * stride
                side = 1
                if name == row.scores:
                    yield Tap("logits", name, (width,), None, field, offset=offset)
                else:
                    node = relu_name(name)
                    yield Tap(name, node, (width,), None, field, pre=True, offset=offset)

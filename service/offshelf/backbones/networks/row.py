"""Builds the networks that `backbones/layers.py` describes, to take Caffe's pixels and weights."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from offshelf.backbones.layers import CHANNELS, Conv, Full, Norm, Pool, relu_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.backbones.layers import Row


class ResponseNorm(nn.Module):
    """`layers.Norm` over maps (N, C, H, W), as a 1 x 1 convolution of the squares with a band.

    torch's own makes a pooling over a fifth axis of it, which takes a multiple of the time.
    """

    band: Tensor
    k: Tensor

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        places = torch.arange(channels)
        near = (places[:, None] - places).abs() <= norm.size // 2
        band = near.to(torch.float32)[:, :, None, None] * (norm.alpha / norm.size)
        # Computed, not learnt: they are no part of the weights.
        self.register_buffer("band", band, persistent=False)
        self.register_buffer("k", torch.full((channels,), norm.k), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The maps, each value divided by what its neighbours in the channels come to."""
        root = F.conv2d(torch.square(x), self.band, self.k).rsqrt()
        # The power of -3/4 by roots, which are many times faster than a power.
        return x * (root * root.sqrt())


class RowNetwork(nn.Sequential):
    """A row of layers; the names of the modules, and so of the weights, are the prototxt's.

    It takes pixels from which the mean pixel was subtracted. `mean_image`, where there is one, is
    part of the weights: (3, side, side) in the network's order of channels, on the scale of the
    pixels, with the mean pixel where nobody brought an image. `flip` turns the input upside down.
    """

    mean_image: Tensor
    mean_pixel: Tensor

    def __init__(
        self, row: Row, mean: tuple[float, float, float] | None = None, *, flip: bool = False
    ) -> None:
        super().__init__(OrderedDict(_modules(row)))
        self._centred = mean is not None
        self._flip = flip
        if mean is not None:
            pixel = torch.tensor(mean).view(CHANNELS, 1, 1)
            self.register_buffer("mean_pixel", pixel, persistent=False)
            self.register_buffer("mean_image", pixel.expand(-1, row.side, row.side).clone())
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # torch's default fades from layer to layer, and what has faded tests nothing.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of inputs (N, 3, side, side)."""
        if self._flip:
            x = x.flip(2)
        if self._centred:
            # Tracing comes after loading: in the graph the difference is one constant.
            x = x - (self.mean_image - self.mean_pixel)
        for module in self:
            x = module(x)
        return x


def _modules(row: Row) -> Iterator[tuple[str, nn.Module]]:
    channels, side, flat = CHANNELS, row.side, False
    for name, layer in row.layers.items():
        match layer:
            case Conv():
                convolution = nn.Conv2d(
                    channels, layer.channels, layer.kernel, layer.stride, layer.padding,
                    groups=layer.groups,
                )  # fmt: skip
                yield name, convolution
                channels = layer.channels
                side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            case Pool():
                yield name, nn.MaxPool2d(layer.kernel, layer.stride, ceil_mode=True)
                side = layer.side(side)
            case Norm():
                yield name, ResponseNorm(channels, layer)
            case Full(width):
                if not flat:
                    yield "flatten", nn.Flatten()
                    channels, flat = channels * side * side, True
                yield name, nn.Linear(channels, width)
                channels = width
        if isinstance(layer, Conv | Full) and name != row.scores:
            yield relu_name(name), nn.ReLU()

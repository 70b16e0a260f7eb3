"""Networks of Caffe's time computed without offshelf: torch.nn.functional on a bare state dict.

Written from the prototxt files, layer by layer. Groups are convolved apart, the sum of LRN is
written out, and pooling gets its partial windows from padding, so that what is tested is not what
it is tested with.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812  # its usual name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    Taps = dict[str, Tensor]

BGR_MEAN: Final = (104.007, 116.669, 122.679)
VGG_BGR_MEAN: Final = (103.939, 116.779, 123.68)

# Layer: outputs, inputs of a group, kernel.
ALEXNET_FILTERS: Final = {
    "conv1": (96, 3, 11), "conv2": (256, 48, 5), "conv3": (384, 256, 3),
    "conv4": (384, 192, 3), "conv5": (256, 192, 3),
}  # fmt: skip
ALEXNET_MATRICES: Final = {"fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096)}
SLOW_FILTERS: Final = {
    "conv1": (96, 3, 7), "conv2": (256, 96, 5), "conv3": (512, 256, 3),
    "conv4": (512, 512, 3), "conv5": (512, 512, 3),
}  # fmt: skip
SLOW_MATRICES: Final = {"fc6": (4096, 18432), "fc7": (4096, 4096), "fc8": (1000, 4096)}


def seeded(
    filters: Mapping[str, tuple[int, int, int]], matrices: Mapping[str, tuple[int, int]], seed: int
) -> dict[str, np.ndarray]:
    """Weights that keep the scale of what goes through them, and biases that matter."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {n: (o, i, k, k) for n, (o, i, k) in filters.items()}
    state = {}
    for name, shape in (shapes | dict(matrices)).items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"{name}.weight"] = random.standard_normal(shape, np.float32) * np.float32(scale)
        state[f"{name}.bias"] = random.standard_normal(shape[0], np.float32)
    return state


def to_inputs(
    images: Sequence[bytes], side: int, mean: np.ndarray, *, warp: bool = False, rgb: bool = False
) -> Tensor:
    """Image files as Caffe sees them: B, G, R from 0 to 255, less `mean` (3,)."""
    return torch.stack([_input(data, side, mean, warp=warp, rgb=rgb) for data in images])


def _input(data: bytes, side: int, mean: np.ndarray, *, warp: bool, rgb: bool) -> Tensor:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    short = min(image.size)
    size = (256, 256) if warp else tuple(256 * length // short for length in image.size)
    resized = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float64)
    top, left = (round((length - side) / 2) for length in resized.shape[:2])
    pixels = resized[top : top + side, left : left + side]
    planes = (pixels if rgb else pixels[:, :, ::-1]).transpose(2, 0, 1)
    return torch.from_numpy(planes - mean[:, None, None]).float()


def conv(
    state: Mapping[str, Tensor], name: str, x: Tensor, stride: int, padding: int, groups: int
) -> Tensor:
    """A convolution whose groups are networks of their own, side by side."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), bias.chunk(groups), strict=True)
    return torch.cat([F.conv2d(a, w, b, stride, padding) for a, w, b in parts], 1)


def lrn(x: Tensor, k: float = 1.0, alpha: float = 1e-4) -> Tensor:
    """Five channels, power 3/4, alpha divided by five; in double precision."""
    wide = x.double()
    squares = F.pad(wide**2, (0, 0, 0, 0, 2, 2))
    total = sum(squares[:, place : place + x.shape[1]] for place in range(5))
    return (wide / (k + alpha / 5 * total) ** 0.75).float()


def pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Maximum pooling where what is left at the right and below makes a window too."""
    rest = -(x.shape[-1] - kernel) % stride
    return F.max_pool2d(F.pad(x, (0, rest, 0, rest), value=-torch.inf), kernel, stride)


def _conv_relu(taps: Taps, state: Mapping[str, Tensor], name: str, x: Tensor, *how: int) -> Tensor:
    taps[f"{name}:pre"] = conv(state, name, x, *how)
    taps[name] = F.relu(taps[f"{name}:pre"])
    return taps[name]


def _top(taps: Taps, state: Mapping[str, Tensor], x: Tensor) -> Taps:
    """The three inner products on a map that is read channel by channel, row by row."""
    x = x.reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        taps[f"{name}:pre"] = F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])
        x = taps[name] = F.relu(taps[f"{name}:pre"])
    taps["logits"] = F.linear(x, state["fc8.weight"], state["fc8.bias"])
    return taps


def alexnet(state: Mapping[str, Tensor], x: Tensor) -> Taps:
    """bvlc_alexnet: normalised, then pooled. Inputs (N, 3, 227, 227)."""
    taps: Taps = {}
    for name, stride, padding, groups in (("1", 4, 0, 1), ("2", 1, 2, 2)):
        x = _conv_relu(taps, state, f"conv{name}", x, stride, padding, groups)
        x = taps[f"norm{name}"] = lrn(x)
        x = taps[f"pool{name}"] = pool(x, 3, 2)
    return _upper_half(taps, state, x)


def caffenet(state: Mapping[str, Tensor], x: Tensor) -> Taps:
    """bvlc_reference_caffenet: pooled, then normalised. Inputs (N, 3, 227, 227)."""
    taps: Taps = {}
    for name, stride, padding, groups in (("1", 4, 0, 1), ("2", 1, 2, 2)):
        x = _conv_relu(taps, state, f"conv{name}", x, stride, padding, groups)
        x = taps[f"pool{name}"] = pool(x, 3, 2)
        x = taps[f"norm{name}"] = lrn(x)
    return _upper_half(taps, state, x)


def decaf(state: Mapping[str, Tensor], x: Tensor) -> Taps:
    """CaffeNet's layers on the image upside down. Inputs (N, 3, 227, 227), R, G, B."""
    return caffenet(state, torch.from_numpy(x.numpy()[:, :, ::-1].copy()))


def _upper_half(taps: Taps, state: Mapping[str, Tensor], x: Tensor) -> Taps:
    x = _conv_relu(taps, state, "conv3", x, 1, 1, 1)
    x = _conv_relu(taps, state, "conv4", x, 1, 1, 2)
    x = _conv_relu(taps, state, "conv5", x, 1, 1, 2)
    x = taps["pool5"] = pool(x, 3, 2)
    return _top(taps, state, x)


def cnn_s(state: Mapping[str, Tensor], x: Tensor) -> Taps:
    """VGG_CNN_S: every pool has windows that are cut off. Inputs (N, 3, 224, 224)."""
    taps: Taps = {}
    x = _conv_relu(taps, state, "conv1", x, 2, 0, 1)
    x = taps["norm1"] = lrn(x, k=2, alpha=5e-4)
    x = taps["pool1"] = pool(x, 3, 3)
    x = _conv_relu(taps, state, "conv2", x, 1, 0, 1)
    x = taps["pool2"] = pool(x, 2, 2)
    for name in ("conv3", "conv4", "conv5"):
        x = _conv_relu(taps, state, name, x, 1, 1, 1)
    x = taps["pool5"] = pool(x, 3, 3)
    return _top(taps, state, x)


def features(
    network: Callable[[Mapping[str, Tensor], Tensor], Taps],
    state: Mapping[str, np.ndarray],
    inputs: Tensor,
) -> dict[str, np.ndarray]:
    """Every tap of a network for these inputs."""
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    with torch.inference_mode():
        return {name: tap.numpy() for name, tap in network(tensors, inputs).items()}

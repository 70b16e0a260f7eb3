"""What the cards of the papers' own networks have in common: nobody fetches their weights.

They are brought: `<name>.caffemodel`, `.safetensors` or `.npz` in the weights directory, with the
mean image in it or beside it. How, and under which names, is in docs/paper-networks.md.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from offshelf.backbones.interface import Alias, Card, PublishedWeights
from offshelf.backbones.layers import CHANNELS, Full, taps
from offshelf.core.spec import Preprocessing
from offshelf.errors import WeightsMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from offshelf.backbones.interface import Unpack
    from offshelf.backbones.layers import Row
    from offshelf.core.spec import Channels

Pixel: TypeAlias = tuple[float, float, float]

# The mean over ImageNet's training images, R, G, B: of Caffe's mean image, and of VGG's.
CAFFE_MEAN: Final[Pixel] = (122.679, 116.669, 104.007)
VGG_MEAN: Final[Pixel] = (123.68, 116.779, 103.939)

MEAN_IMAGE: Final = "mean_image"
WEIGHTS: Final = PublishedWeights(
    name="brought",
    url="",
    sha256_prefix="",
    licence="None are offered: the weights are brought by the operator, with their terms.",
)


def caffe_card(
    name: str,
    row: Row,
    paper: str,
    mean: Pixel = CAFFE_MEAN,
    channels: Channels = "bgr",
    *,
    flip: bool = False,
    aliases: Mapping[str, Alias] | None = None,
) -> Card:
    """The card of a network that reads pixels from 0 to 255 less a mean, a pixel or an image.

    `mean` is R, G, B; images are 256 pixels wide before the crop. `flip`: it wants them upside
    down. The last layer goes by its own name beside `logits`.
    """
    own_order = mean if channels == "rgb" else mean[::-1]
    preprocessing = Preprocessing(
        resize=256,
        crop=row.side,
        interpolation="bilinear",
        mean=_of_255(mean),
        std=_of_255((1.0, 1.0, 1.0)),
        channels=channels,
    )
    build = functools.partial(_build, row, own_order, flip)
    card = _card(name, row, paper, preprocessing, build, own_order, aliases or {})
    if not flip:
        return card
    # Unit 0 is at the image's bottom then, and at its left: no one number is where it looks.
    return replace(card, taps=tuple(replace(tap, offset=None) for tap in card.taps))


def plain_card(name: str, row: Row, paper: str, mean: float, std: float) -> Card:
    """The card of a network that reads (pixel - mean) / std, the same for R, G and B."""
    mean_, std_ = _of_255((mean, mean, mean)), _of_255((std, std, std))
    preprocessing = Preprocessing(row.side, row.side, "bilinear", mean_, std_)
    build = functools.partial(_build, row, None, False)
    return _card(name, row, paper, preprocessing, build, None, {})


def _card(
    name: str,
    row: Row,
    paper: str,
    preprocessing: Preprocessing,
    build: functools.partial[torch.nn.Module],
    mean: Pixel | None,
    aliases: Mapping[str, Alias],
) -> Card:
    vectors = [layer for layer, what in row.layers.items() if isinstance(what, Full)]
    return Card(
        name=name,
        build=build,
        taps=taps(row),
        preprocessing=preprocessing,
        weights=WEIGHTS,
        aliases={row.scores: Alias("logits"), "penultimate": Alias(vectors[-2]), **aliases},
        classes=taps(row)[-1].shape[0],
        paper=paper,
        formats=_READERS,
        complete=None if mean is None else functools.partial(_with_mean_image, row.side, mean),
        mean_image="" if mean is None else MEAN_IMAGE,
    )


def _of_255(pixel: Pixel) -> Pixel:
    """A pixel on the scale of 0 to 255 on that of 0 to 1."""
    red, green, blue = (value / 255 for value in pixel)
    return red, green, blue


def _build(row: Row, mean: Pixel | None, flip: bool, classes: int | None = None) -> torch.nn.Module:
    from offshelf.backbones.networks.row import RowNetwork

    wanted = row if classes is None else row.with_scores(row.scores, classes)
    return RowNetwork(wanted, mean, flip=flip)


def _with_mean_image(
    side: int, mean: Pixel, path: Path, state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The state dict with the mean image in it: the file's, the one beside it, or the pixel."""
    import torch

    beside = path.with_suffix(".binaryproto")
    if MEAN_IMAGE in state:
        image = state[MEAN_IMAGE]
    elif beside.is_file():
        image = _mean_image(beside)
    else:
        image = torch.tensor(mean).view(CHANNELS, 1, 1).expand(-1, side, side)
    return {**state, MEAN_IMAGE: centred(image, side)}


def centred(image: torch.Tensor, side: int) -> torch.Tensor:
    """The central square of a mean image (3, height, width), as Caffe crops it."""
    if image.ndim != CHANNELS or image.shape[0] != CHANNELS or min(image.shape[1:]) < side:
        raise WeightsMissing(
            f"the mean image is {tuple(image.shape)}; it should be (3, height, width) "
            f"of at least {side} x {side} pixels"
        )
    top, left = ((length - side) // 2 for length in image.shape[1:])
    return image[:, top : top + side, left : left + side].contiguous()


def _mean_image(path: Path) -> torch.Tensor:
    from offshelf.backbones.caffemodel import read_mean_image

    return read_mean_image(path)


def _caffemodel(path: Path) -> dict[str, torch.Tensor]:
    from offshelf.backbones.caffemodel import read_caffemodel

    return read_caffemodel(path)


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _npz(path: Path) -> dict[str, torch.Tensor]:
    """Arrays by name; never a pickled object."""
    import numpy as np
    import torch

    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


_READERS: Final[dict[str, Unpack]] = {
    ".safetensors": _safetensors,
    ".caffemodel": _caffemodel,
    ".npz": _npz,
}

"""embednet: a small relative of AlexNet whose weights come with offshelf; see training/embedded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from offshelf.backbones.interface import Alias, Card, PublishedWeights, Tap, register
from offshelf.core.spec import Preprocessing

if TYPE_CHECKING:
    import torch

WEIGHTS: Final = Path(__file__).parent / "weights" / "embednet.safetensors"

LICENCE: Final = (
    "Made by this project (Apache-2.0) from images of Tiny-ImageNet, with SqueezeNet 1.0 "
    "(BSD) as teacher. The images are ImageNet's, whose terms allow non-commercial research and "
    "education; whether they bind the weights is for you to judge."
)


def build(classes: int | None = None) -> torch.nn.Module:
    """The network, untrained."""
    from offshelf.backbones.networks.embednet import CLASSES, embednet

    return embednet(classes or CLASSES)


def unpack(path: Path) -> dict[str, torch.Tensor]:
    """The float32 state dict of the packed weights file."""
    from offshelf.backbones.networks.embednet import unpack as read

    return read(path)


CARD = register(
    Card(
        name="embednet",
        build=build,
        unpack=unpack,
        preprocessing=Preprocessing(
            resize=72,
            crop=72,
            interpolation="bilinear",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        weights=PublishedWeights(
            name="embednet-1", url="", sha256_prefix="", licence=LICENCE, packaged=WEIGHTS
        ),
        classes=200,
        nbytes=21_929_632,
        taps=(
            Tap("conv1", "relu1", (64, 36, 36), 2, 5, pre=True, offset=0.0),
            Tap("pool1", "pool1", (64, 17, 17), 4, 9, offset=2.0),
            Tap("conv2", "relu2", (192, 17, 17), 4, 17, pre=True, offset=2.0),
            Tap("pool2", "pool2", (192, 8, 8), 8, 25, offset=6.0),
            Tap("conv3", "relu3", (288, 8, 8), 8, 41, pre=True, offset=6.0),
            Tap("conv4", "relu4", (256, 8, 8), 8, 57, pre=True, offset=6.0),
            Tap("conv5", "relu5", (256, 8, 8), 8, 73, pre=True, offset=6.0),
            Tap("pool5", "pool5", (256, 3, 3), 16, 97, offset=18.0),
            Tap("fc6", "relu6", (1024,), None, 129, pre=True, offset=34.0),
            Tap("fc7", "relu7", (1024,), None, 129, pre=True, offset=34.0),
            Tap("logits", "logits", (200,), None, 129, offset=34.0),
        ),
        aliases={"penultimate": Alias("fc7")},
    )
)

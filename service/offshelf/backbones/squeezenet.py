"""SqueezeNet 1.0: AlexNet's accuracy in five megabytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.backbones.imagenet import PRESET, published
from offshelf.backbones.interface import Alias, Card, Tap, register

if TYPE_CHECKING:
    import torch


def build_1_0(classes: int | None = None) -> torch.nn.Module:
    """The network, untrained."""
    from torchvision.models import squeezenet1_0

    network: torch.nn.Module = squeezenet1_0(weights=None, num_classes=classes or 1000)
    return network


CARD = register(
    Card(
        name="squeezenet1_0",
        build=build_1_0,
        preprocessing=PRESET,
        weights=published("squeezenet1_0-b66bff10.pth", top1=58.092),
        paper="arXiv:1602.07360",
        # Pools are numbered as in the authors' own files. A fire module ends in a concatenation
        # of two activations: no activation itself, so without a `:pre`.
        taps=(
            Tap("conv1", "features.1", (96, 109, 109), 2, 7, pre=True),
            Tap("pool1", "features.2", (96, 54, 54), 4, 11),
            Tap("fire2", "features.3.cat", (128, 54, 54), 4, 19),
            Tap("fire3", "features.4.cat", (128, 54, 54), 4, 27),
            Tap("fire4", "features.5.cat", (256, 54, 54), 4, 35),
            Tap("pool4", "features.6", (256, 27, 27), 8, 43),
            Tap("fire5", "features.7.cat", (256, 27, 27), 8, 59),
            Tap("fire6", "features.8.cat", (384, 27, 27), 8, 75),
            Tap("fire7", "features.9.cat", (384, 27, 27), 8, 91),
            Tap("fire8", "features.10.cat", (512, 27, 27), 8, 107),
            Tap("pool8", "features.11", (512, 13, 13), 16, 123),
            Tap("fire9", "features.12.cat", (512, 13, 13), 16, 155),
            Tap("conv10", "classifier.2", (1000, 13, 13), 16, 155, pre=True),
            Tap("logits", "flatten", (1000,), None, 347),
        ),
        aliases={"penultimate": Alias("fire9", pool="avg")},
    )
)

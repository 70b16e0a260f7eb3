"""AlexNet as torchvision has it: one column, no grouping, no local response normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.backbones.imagenet import PRESET, published
from offshelf.backbones.interface import Alias, Card, Tap, register

if TYPE_CHECKING:
    import torch


def build(classes: int | None = None) -> torch.nn.Module:
    """The network, untrained."""
    from torchvision.models import alexnet

    network: torch.nn.Module = alexnet(weights=None, num_classes=classes or 1000)
    return network


CARD = register(
    Card(
        name="alexnet",
        build=build,
        preprocessing=PRESET,
        weights=published("alexnet-owt-7be5be79.pth", top1=56.522),
        paper="arXiv:1404.5997",
        taps=(
            Tap("conv1", "features.1", (64, 55, 55), 4, 11, pre=True),
            Tap("pool1", "features.2", (64, 27, 27), 8, 19),
            Tap("conv2", "features.4", (192, 27, 27), 8, 51, pre=True),
            Tap("pool2", "features.5", (192, 13, 13), 16, 67),
            Tap("conv3", "features.7", (384, 13, 13), 16, 99, pre=True),
            Tap("conv4", "features.9", (256, 13, 13), 16, 131, pre=True),
            Tap("conv5", "features.11", (256, 13, 13), 16, 163, pre=True),
            Tap("pool5", "features.12", (256, 6, 6), 32, 195),
            Tap("fc6", "classifier.2", (4096,), None, 355, pre=True),
            Tap("fc7", "classifier.5", (4096,), None, 355, pre=True),
            Tap("logits", "classifier.6", (1000,), None, 355),
        ),
        aliases={"penultimate": Alias("fc7")},
    )
)

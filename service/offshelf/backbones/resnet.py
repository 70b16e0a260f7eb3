"""ResNet-50 as torchvision has it (v1.5: the stride is in the 3 x 3 convolution)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.backbones.imagenet import PRESET, published
from offshelf.backbones.interface import Alias, Card, Tap, register

if TYPE_CHECKING:
    import torch


def build_50(classes: int | None = None) -> torch.nn.Module:
    """The network, untrained."""
    from torchvision.models import resnet50

    network: torch.nn.Module = resnet50(weights=None, num_classes=classes or 1000)
    return network


CARD = register(
    Card(
        name="resnet50",
        build=build_50,
        preprocessing=PRESET,
        weights=published("resnet50-0676ba61.pth", top1=76.130),
        paper="arXiv:1512.03385",
        taps=(
            Tap("conv1", "relu", (64, 112, 112), 2, 7, pre=True),
            Tap("pool1", "maxpool", (64, 56, 56), 4, 11),
            # The third ReLU of a stage's last block; before it is the sum with the shortcut.
            Tap("conv2", "layer1.2.relu_2", (256, 56, 56), 4, 35, pre=True),
            Tap("conv3", "layer2.3.relu_2", (512, 28, 28), 8, 91, pre=True),
            Tap("conv4", "layer3.5.relu_2", (1024, 14, 14), 16, 267, pre=True),
            Tap("conv5", "layer4.2.relu_2", (2048, 7, 7), 32, 427, pre=True),
            Tap("pool5", "flatten", (2048,), None, 619),
            Tap("logits", "fc", (1000,), None, 619),
        ),
        aliases={
            **{f"layer{stage}": Alias(f"conv{stage + 1}") for stage in range(1, 5)},
            "penultimate": Alias("pool5"),
        },
    )
)

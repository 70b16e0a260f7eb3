"""A small relative of AlexNet whose weights fit in the package, for machines without a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

INPUT_SIDE: Final = 72  # pixels
CLASSES: Final = 200
PACKED: Final = Path(__file__).parents[1] / "weights" / "embednet.safetensors"

_SCALE: Final = ".scale"


class EmbedNet(nn.Module):
    """Five convolutions and three linear layers; the names of the modules are the taps.

    `conv3` is before its ReLU and `relu3` after it, up to `fc7` and `relu7`. Batch norm was folded
    into the layers when the weights were packed. `fc6` fixes the input at 72 x 72 pixels.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 64, 5, stride=2, padding=2), nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2, self.relu2 = nn.Conv2d(64, 192, 3, padding=1), nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3, self.relu3 = nn.Conv2d(192, 288, 3, padding=1), nn.ReLU()
        self.conv4, self.relu4 = nn.Conv2d(288, 256, 3, padding=1), nn.ReLU()
        self.conv5, self.relu5 = nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()
        self.pool5 = nn.MaxPool2d(4, stride=2)
        self.fc6, self.relu6 = nn.Linear(256 * 3 * 3, 1024), nn.ReLU()
        self.fc7, self.relu7 = nn.Linear(1024, 1024), nn.ReLU()
        self.logits = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of normalised images, N x 3 x 72 x 72."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.conv3(x))
        x = self.relu4(self.conv4(x))
        x = self.pool5(self.relu5(self.conv5(x)))
        x = self.relu6(self.fc6(torch.flatten(x, 1)))
        x = self.relu7(self.fc7(x))
        scores: Tensor = self.logits(x)
        return scores


def embednet(classes: int = CLASSES) -> nn.Module:
    """The network with torch's default initialisation.

    Its convolutions are laid out channels-last, which is a third faster on a CPU at this size.
    """
    return EmbedNet(classes).to(memory_format=torch.channels_last)


def unpack(path: Path = PACKED) -> dict[str, Tensor]:
    """Read a packed weights file into a float32 state dict for `embednet()`.

    A weight stored as int8 comes with a `.scale` of one float32 per output channel.
    """
    packed = load_file(path)
    scales = {name.removesuffix(_SCALE): packed.pop(name) for name in _scale_names(packed)}
    return {
        name: _restored(value, scales[name.removesuffix(".weight")])
        if value.dtype == torch.int8
        else value.float()
        for name, value in packed.items()
    }


def _scale_names(packed: dict[str, Tensor]) -> list[str]:
    return [name for name in packed if name.endswith(_SCALE)]


def _restored(steps: Tensor, scale: Tensor) -> Tensor:
    return steps.float() * scale.view(-1, *[1] * (steps.ndim - 1))

"""The training form of embednet: batch norm after each layer and heads that are thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTHS = (64, 192, 288, 256, 256)
FC6 = 1024
FC7 = 1024
CLASSES = 200
POOL_SIDE = 3


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def pool5(maps: Tensor) -> Tensor:
    """Max pooling to 3 x 3 whatever the input size, so that one fc6 serves all training sizes."""
    stride = maps.shape[-1] // POOL_SIDE
    return functional.max_pool2d(maps, maps.shape[-1] - (POOL_SIDE - 1) * stride, stride)


class TrainingNet(nn.Module):
    """Conv/BN/ReLU five times, then two BN'd linear layers; each BN folds into its layer."""

    def __init__(self, teacher_width: int, dropout: float) -> None:
        super().__init__()
        one, two, three, four, five = WIDTHS
        self.conv1, self.bn1 = _conv(3, one, 5, 2), nn.BatchNorm2d(one)
        self.conv2, self.bn2 = _conv(one, two, 3), nn.BatchNorm2d(two)
        self.conv3, self.bn3 = _conv(two, three, 3), nn.BatchNorm2d(three)
        self.conv4, self.bn4 = _conv(three, four, 3), nn.BatchNorm2d(four)
        self.conv5, self.bn5 = _conv(four, five, 3), nn.BatchNorm2d(five)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2)
        self.drop = nn.Dropout(dropout)
        self.fc6 = nn.Linear(five * POOL_SIDE**2, FC6, bias=False)
        self.bn6 = nn.BatchNorm1d(FC6)
        self.fc7, self.bn7 = nn.Linear(FC6, FC7, bias=False), nn.BatchNorm1d(FC7)
        self.logits = nn.Linear(FC7, CLASSES)
        self.mimic6 = nn.Linear(FC6, teacher_width * 4)
        self.mimic7 = nn.Linear(FC7, teacher_width)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for head in (self.logits, self.mimic6, self.mimic7):
            nn.init.normal_(head.weight, std=0.01)

    def _block(self, x: Tensor, layer: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        out: Tensor = self.relu(norm(layer(x)))
        return out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class scores and the guesses at the teacher's quadrant and whole-crop features."""
        x = self.pool(self._block(x, self.conv1, self.bn1))
        x = self.pool(self._block(x, self.conv2, self.bn2))
        x = self._block(x, self.conv3, self.bn3)
        x = self._block(x, self.conv4, self.bn4)
        x = pool5(self._block(x, self.conv5, self.bn5)).flatten(1)
        six = self._block(self.drop(x), self.fc6, self.bn6)
        seven = self._block(self.drop(six), self.fc7, self.bn7)
        return self.logits(seven), self.mimic6(six), self.mimic7(seven)

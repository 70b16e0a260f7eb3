from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models

from offshelf.backbones.tracing import Shapes


def resnet(classes: int | None = None) -> nn.Module:
    return models.resnet18(weights=None, num_classes=classes or 1000)


def build(make: type[nn.Module], classes: int | None = None) -> nn.Module:
    return make()


def test_shapes_are_those_of_a_forward_pass() -> None:
    shapes = Shapes(resnet, 96)
    seen: dict[str, tuple[int, ...]] = {}
    network = resnet().eval()
    for name in ("layer1", "layer2.0.conv1", "avgpool", "fc"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: tuple(out.shape[1:])})
        )
    with torch.inference_mode():
        network(torch.zeros(1, 3, 96, 96))
    assert {name: shapes.shape(name) for name in seen} == seen  # `layer1` is its last node
    assert shapes.shape("flatten") == (512,)
    assert (shapes.output(), shapes.before("fc")) == ("fc", "flatten")
    assert shapes.before("layer1") == "maxpool"


def test_what_cannot_be_said_is_told() -> None:
    shapes = Shapes(resnet, 64)
    with pytest.raises(ValueError, match="no node layer9"):
        shapes.shape("layer9")
    with pytest.raises(ValueError, match="its module layer9 comes of 0 nodes"):
        shapes.before("layer9")


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Two(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, x + 2


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


def test_networks_without_a_graph_or_of_another_size_are_told() -> None:
    with pytest.raises(ValueError, match=r"torch\.fx cannot trace it: TraceError"):
        Shapes(partial(build, Branches), 8)
    with pytest.raises(ValueError, match="does not take 9 x 9 pixels"):
        Shapes(partial(build, Narrow), 9)
    with pytest.raises(ValueError, match="its output comes of 2 nodes"):
        Shapes(partial(build, Two), 8).output()

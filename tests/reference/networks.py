"""Networks for tests: which are small, and seeded ones that behave like trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch
from torch import nn

from offshelf.backbones.weights import load
from offshelf.engine.interface import WeightsInfo
from offshelf.engine.torch_resident import TorchResident
from offshelf.settings import Settings
from tests.reference.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from offshelf.backbones.interface import Card

# At least one of every family, of every kind of block and activation; seconds for all of them.
SMALL: Final = (
    "alexnet", "caffe_alexnet", "convnext_tiny", "decaf", "densenet121", "efficientnet_b0",
    "embednet", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5",
    "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
)  # fmt: skip

LARGE: Final = (pytest.mark.large, pytest.mark.timeout(1_800))

CALIBRATED_ON: Final = 4  # images


def tiered(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a test: those of large networks in the opt-in tier."""
    return [name if name in SMALL else pytest.param(name, marks=LARGE) for name in names]


def seeded(card: Card, seed: int = 0, device: str = "cpu") -> TorchResident:
    """The network with seeded weights on a device, at the scale of a trained one."""
    loaded = load(card, f"random:{seed}", Settings(device="cpu"))
    settle(loaded.network, _inputs(card))
    info = WeightsInfo("random", loaded.label, loaded.digest, loaded.licence, loaded.label)
    return TorchResident(card, info, loaded.network, torch.device(device))


def settle(network: nn.Module, inputs: torch.Tensor) -> None:
    """Make a freshly initialised network answer to its input.

    Without training the signal fades or grows by many orders of magnitude on its way through
    batch norms that have seen nothing, until the biases are all that is left: constants, of
    which any engine and any batch give the same. Here each batch norm divides by the size of
    what comes to it; the scales of ConvNeXt's branches, which start at 1e-6, become 1; and layers
    that start as zeros (ViT's classes) get small numbers.

    The means of the channels stay. Without them too, as after training, an untrained network is
    chaotic: the rounding of a batch against single images grew by a quarter with every block of
    regnet_y_400mf, to 1.4e-5 (Yang et al., "A mean field theory of batch normalization", 2019).
    """
    random = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.ones_(parameter)
        elif parameter.ndim == 2 and not parameter.any():
            parameter.normal_(std=0.02, generator=random)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_scaled) for norm in norms]
    if norms:
        with torch.inference_mode():
            network(inputs)
    for hook in hooks:
        hook.remove()


def _scaled(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
    norm.running_mean.zero_()
    norm.running_var.fill_(inputs[0].square().mean())


def _inputs(card: Card) -> torch.Tensor:
    pre = card.preprocessing
    images = [np.asarray(picture(100 + seed, pre.crop, pre.crop)) for seed in range(CALIBRATED_ON)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(pre.mean).view(3, 1, 1)) / torch.tensor(pre.std).view(3, 1, 1)

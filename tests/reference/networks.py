"""Networks for tests: which are small, and seeded ones that behave like trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from offshelf.backbones.weights import load
from offshelf.engine.interface import WeightsInfo
from offshelf.engine.torch_engine import TorchResident
from offshelf.settings import Settings
from tests.reference.pictures import picture

if TYPE_CHECKING:
    from offshelf.backbones.interface import Card

# At least one of every family, of every kind of block and activation; seconds for all of them.
SMALL: Final = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "embednet",
    "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
    "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "squeezenet1_0", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
)  # fmt: skip

CALIBRATED_ON: Final = 4  # images


def seeded(card: Card, seed: int = 0) -> TorchResident:
    """The network with seeded weights on the CPU, at the scale of a trained one."""
    loaded = load(card, f"random:{seed}", Settings(device="cpu"))
    settle(loaded.network, _inputs(card))
    info = WeightsInfo("random", loaded.label, loaded.digest, loaded.licence, loaded.label)
    return TorchResident(card, info, loaded.network, torch.device("cpu"))


def settle(network: nn.Module, inputs: torch.Tensor) -> None:
    """Make a freshly initialised network answer to its input.

    Without training the signal fades or grows by many orders of magnitude on its way through
    batch norms that have seen nothing, until the biases are all that is left: constants, of
    which any engine and any batch give the same. Here batch norms get the statistics of a batch,
    as training would have given them; the scales of ConvNeXt's branches, which start at 1e-6,
    become 1; and layers that start as zeros (ViT's classes) get small numbers.
    """
    random = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.ones_(parameter)
        elif parameter.ndim == 2 and not parameter.any():
            parameter.normal_(std=0.02, generator=random)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches: of one batch, its own
        norm.train()
    if norms:
        with torch.inference_mode():
            network(inputs)
    network.eval()


def _inputs(card: Card) -> torch.Tensor:
    pre = card.preprocessing
    images = [np.asarray(picture(100 + seed, pre.crop, pre.crop)) for seed in range(CALIBRATED_ON)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(pre.mean).view(3, 1, 1)) / torch.tensor(pre.std).view(3, 1, 1)

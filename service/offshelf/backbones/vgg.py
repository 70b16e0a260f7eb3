"""VGG-16 (configuration D) as torchvision has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.backbones.imagenet import PRESET, published
from offshelf.backbones.interface import Alias, Card, Tap, register

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

# Convolutions and channels of each block; a block ends in a 2 x 2 maximum pool.
BLOCKS_16: Final = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def build_16(classes: int | None = None) -> torch.nn.Module:
    """The network, untrained; Kaiming's initialisation, since the default one fades with depth."""
    from torchvision.models import vgg16

    network: torch.nn.Module = vgg16(weights=None, init_weights=True, num_classes=classes or 1000)
    return network


def _map_taps(blocks: tuple[tuple[int, int], ...], side: int) -> Iterator[Tap]:
    """Taps of `features`: (convolution, ReLU) pairs, then a pool; each by its arithmetic."""
    layer, stride, field = 0, 1, 1
    for block, (convolutions, channels) in enumerate(blocks, 1):
        for position in range(1, convolutions + 1):
            field += 2 * stride
            shape, node = (channels, side, side), f"features.{layer + 1}"
            yield Tap(f"conv{block}_{position}", node, shape, stride, field, pre=True)
            layer += 2
        side, field, stride = side // 2, field + stride, 2 * stride
        yield Tap(f"pool{block}", f"features.{layer}", (channels, side, side), stride, field)
        layer += 1


CARD = register(
    Card(
        name="vgg16",
        build=build_16,
        preprocessing=PRESET,
        weights=published("vgg16-397923af.pth", top1=71.592),
        paper="arXiv:1409.1556",
        taps=(
            *_map_taps(BLOCKS_16, PRESET.crop),
            Tap("fc6", "classifier.1", (4096,), None, 404, pre=True),
            Tap("fc7", "classifier.4", (4096,), None, 404, pre=True),
            Tap("logits", "classifier.6", (1000,), None, 404),
        ),
        aliases={
            **{f"conv{b}": Alias(f"conv{b}_{n}") for b, (n, _) in enumerate(BLOCKS_16, 1)},
            "penultimate": Alias("fc7"),
        },
    )
)

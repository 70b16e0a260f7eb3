"""VGG in its configurations A, B, D and E, with and without batch normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.backbones.imagenet import Network, declare

if TYPE_CHECKING:
    from collections.abc import Iterator

# Convolutions of each block; a block ends in a 2 x 2 maximum pool.
BLOCKS: Final = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def _map_taps(blocks: tuple[int, ...], layers: int) -> Iterator[tuple[str, str]]:
    """Taps of `features`: of `layers` for a convolution the last is its ReLU; then a pool."""
    layer = 0
    for block, convolutions in enumerate(blocks, 1):
        for position in range(1, convolutions + 1):
            layer += layers
            yield f"conv{block}_{position}", f"features.{layer - 1}"
        yield f"pool{block}", f"features.{layer}"
        layer += 1


# torchvision also publishes VGG16_Weights.IMAGENET1K_FEATURES (Caffe's, for detection). Its
# classifier holds no numbers, so fc6, fc7 and logits would be wrong: it is left out.
CARDS = [
    declare(
        Network(
            name=name + ending,
            paper="arXiv:1409.1556",
            taps={
                **dict(_map_taps(blocks, layers)),
                "fc6": "classifier.1",
                "fc7": "classifier.4",
                "logits": "classifier.6",
            },
            aliases={
                **{f"conv{block}": f"conv{block}_{last}" for block, last in enumerate(blocks, 1)},
                "penultimate": "fc7",
            },
        )
    )
    for name, blocks in BLOCKS.items()
    for ending, layers in (("", 2), ("_bn", 3))
]

"""ShuffleNet v2 at four widths; a stage ends in the shuffling of its channels."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

NAMES: Final = (
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
)

CARDS = [
    declare(
        Network(
            name=name,
            paper="arXiv:1807.11164",
            taps={
                "conv1": "conv1",
                "pool1": "maxpool",
                "stage2": "stage2",
                "stage3": "stage3",
                "stage4": "stage4",
                "conv5": "conv5",
                "pool5": "mean",
                "logits": "fc",
            },
            aliases={"penultimate": "pool5"},
        )
    )
    for name in NAMES
]

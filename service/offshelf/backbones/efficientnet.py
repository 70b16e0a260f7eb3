"""EfficientNet B0 to B7, and EfficientNetV2."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

FIRST: Final = "arXiv:1905.11946"
SECOND: Final = "arXiv:2104.00298"

# (stages, paper) of each.
NETWORKS: Final = {
    **{f"efficientnet_b{scale}": (7, FIRST) for scale in range(8)},
    "efficientnet_v2_s": (6, SECOND),
    "efficientnet_v2_m": (7, SECOND),
    "efficientnet_v2_l": (7, SECOND),
}

CARDS = [
    declare(
        Network(
            name=name,
            paper=paper,
            taps={
                "conv1": "features.0",
                **{f"stage{stage}": f"features.{stage}" for stage in range(1, stages + 1)},
                "conv_last": f"features.{stages + 1}",
                "pool": "flatten",
                "logits": "classifier",
            },
            aliases={"penultimate": "pool"},
        )
    )
    for name, (stages, paper) in NETWORKS.items()
]

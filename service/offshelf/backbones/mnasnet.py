"""MnasNet (variant B1) at four widths."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

NAMES: Final = ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3")

CARDS = [
    declare(
        Network(
            name=name,
            paper="arXiv:1807.11626",
            taps={
                "conv1": "layers.2",
                "stage1": "layers.7",
                **{f"stage{stage}": f"layers.{stage + 6}" for stage in range(2, 8)},
                "conv_last": "layers.16",
                "pool": "mean",
                "logits": "classifier",
            },
            aliases={"penultimate": "pool"},
        )
    )
    for name in NAMES
]

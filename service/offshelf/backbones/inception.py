"""Inception v3; the taps have the names of TensorFlow's slim, which torchvision kept."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

MIXED: Final = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")

CARD = declare(
    Network(
        name="inception_v3",
        paper="arXiv:1512.00567",
        # The published weights want pixels mapped to [-1, 1]; the network does that itself.
        options={"aux_logits": False, "transform_input": True, "init_weights": True},
        ignored=("AuxLogits.",),
        taps={
            **{name: name for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")},
            "MaxPool_3a_3x3": "maxpool1",
            **{name: name for name in ("Conv2d_3b_1x1", "Conv2d_4a_3x3")},
            "MaxPool_5a_3x3": "maxpool2",
            **{f"Mixed_{name}": f"Mixed_{name}" for name in MIXED},
            "AvgPool_1a": "flatten",
            "logits": "fc",
        },
        aliases={"penultimate": "AvgPool_1a"},
    )
)

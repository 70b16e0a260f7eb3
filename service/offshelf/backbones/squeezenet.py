"""SqueezeNet 1.0 and 1.1: AlexNet's accuracy in five megabytes."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare
from offshelf.backbones.interface import Alias

# The layers of `features` after conv1, in order. Pools are numbered as in the authors' own files.
LAYERS: Final = {
    "squeezenet1_0": "pool1 fire2 fire3 fire4 pool4 fire5 fire6 fire7 fire8 pool8 fire9",
    "squeezenet1_1": "pool1 fire2 fire3 pool3 fire4 fire5 pool5 fire6 fire7 fire8 fire9",
}

# A fire module ends in a concatenation of two activations: no activation itself, so without a
# `:pre`.
CARDS = [
    declare(
        Network(
            name=name,
            paper="arXiv:1602.07360",
            taps={
                "conv1": "features.1",
                **{tap: f"features.{layer}" for layer, tap in enumerate(layers.split(), 2)},
                "conv10": "classifier.2",
                "logits": "flatten",
            },
            aliases={"penultimate": Alias("fire9", pool="avg")},
        )
    )
    for name, layers in LAYERS.items()
]

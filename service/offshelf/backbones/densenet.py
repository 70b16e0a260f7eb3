"""DenseNet: each dense block concatenates all that its layers gave."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

NAMES: Final = ("densenet121", "densenet161", "densenet169", "densenet201")

# The published files are older than the rule that a module's name has no dot in it.
RENAMED: Final = (r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2")

CARDS = [
    declare(
        Network(
            name=name,
            paper="arXiv:1608.06993",
            renamed=(RENAMED,),
            taps={
                "conv1": "features.relu0",
                "pool1": "features.pool0",
                "block1": "features.denseblock1",
                "transition1": "features.transition1",
                "block2": "features.denseblock2",
                "transition2": "features.transition2",
                "block3": "features.denseblock3",
                "transition3": "features.transition3",
                "block4": "features.denseblock4",
                "conv5": "relu",
                "pool5": "flatten",
                "logits": "classifier",
            },
            aliases={
                **{f"denseblock{block}": f"block{block}" for block in range(1, 5)},
                "penultimate": "pool5",
            },
        )
    )
    for name in NAMES
]

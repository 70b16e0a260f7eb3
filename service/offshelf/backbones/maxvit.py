"""MaxViT: convolutions, attention in windows and attention over a grid, in every block."""

from __future__ import annotations

from offshelf.backbones.imagenet import Network, declare

CARD = declare(
    Network(
        name="maxvit_t",
        paper="arXiv:2204.01697",
        taps={
            "stem": "stem",
            **{f"stage{stage}": f"blocks.{stage - 1}" for stage in range(1, 5)},
            "pool": "classifier.2",
            "fc": "classifier.4",
            "logits": "classifier",
        },
        aliases={"penultimate": "fc"},
    )
)

"""ConvNeXt in four sizes."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

NAMES: Final = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")

# Between the stages, layers 2, 4 and 6 halve the map. The pool is followed by a layer norm, which
# belongs to the feature: the classes are linear in what comes after it.
CARDS = [
    declare(
        Network(
            name=name,
            paper="arXiv:2201.03545",
            taps={
                "stem": "features.0",
                **{f"stage{stage}": f"features.{2 * stage - 1}" for stage in range(1, 5)},
                "pool": "classifier.1",
                "logits": "classifier",
            },
            aliases={"penultimate": "pool"},
        )
    )
    for name in NAMES
]

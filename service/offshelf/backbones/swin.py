"""Swin transformers, both versions; their maps come with channels last and are turned."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

PAPERS: Final = {
    **{f"swin_{size}": "arXiv:2103.14030" for size in "tsb"},
    **{f"swin_v2_{size}": "arXiv:2111.09883" for size in "tsb"},
}

# Between the stages, layers 2, 4 and 6 merge patches.
CARDS = [
    declare(
        Network(
            name=name,
            paper=paper,
            taps={
                "stem": "features.0",
                **{f"stage{stage}": f"features.{2 * stage - 1}" for stage in range(1, 5)},
                "norm": "norm",
                "pool": "flatten",
                "logits": "head",
            },
            aliases={"penultimate": "pool"},
        )
    )
    for name, paper in PAPERS.items()
]

"""RegNet X and Y (with squeeze and excitation), in torchvision's fifteen sizes."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

SIZES: Final = ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")

# The largest has SWAG's weights only. Pinned are those whose features never saw a label of
# ImageNet (its classes are a linear layer on top), at the usual 224 pixels.
PINNED: Final = {"regnet_y_128gf": "IMAGENET1K_SWAG_LINEAR_V1"}

NAMES: Final = (
    *(f"regnet_x_{size}" for size in SIZES),
    *(f"regnet_y_{size}" for size in SIZES),
    *PINNED,
)

CARDS = [
    declare(
        Network(
            name=name,
            paper="arXiv:2003.13678",
            weights=PINNED.get(name, "IMAGENET1K_V1"),
            taps={
                "stem": "stem",
                **{f"stage{stage}": f"trunk_output.block{stage}" for stage in range(1, 5)},
                "pool": "flatten",
                "logits": "fc",
            },
            aliases={
                **{f"block{stage}": f"stage{stage}" for stage in range(1, 5)},
                "penultimate": "pool",
            },
        )
    )
    for name in NAMES
]

"""MobileNet v2 and v3; a stage is the blocks of one row of the papers' tables."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

# Of each network the last block of every stage, as a layer of `features`. In MobileNet v3 rows
# of equal width are one stage.
STAGES: Final = {
    "mobilenet_v2": (1, 3, 6, 10, 13, 16, 17),
    "mobilenet_v3_small": (1, 3, 6, 8, 11),
    "mobilenet_v3_large": (1, 3, 6, 10, 12, 15),
}


def _maps(stages: tuple[int, ...]) -> dict[str, str]:
    """A convolution before the stages, and one after them."""
    return {
        "conv1": "features.0",
        **{f"stage{stage}": f"features.{layer}" for stage, layer in enumerate(stages, 1)},
        "conv_last": f"features.{stages[-1] + 1}",
        "pool": "flatten",
    }


V2 = declare(
    Network(
        name="mobilenet_v2",
        paper="arXiv:1801.04381",
        taps={**_maps(STAGES["mobilenet_v2"]), "logits": "classifier"},
        aliases={"penultimate": "pool"},
    )
)

# The third version has a hidden layer between the pool and the classes.
V3 = [
    declare(
        Network(
            name=name,
            paper="arXiv:1905.02244",
            taps={**_maps(STAGES[name]), "fc": "classifier.1", "logits": "classifier"},
            aliases={"penultimate": "fc"},
        )
    )
    for name in ("mobilenet_v3_small", "mobilenet_v3_large")
]

"""Vision transformers: every block's tokens, the class token, and the patches as a map."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import At, Network, declare

# Blocks of each.
BLOCKS: Final = {"vit_b_16": 12, "vit_b_32": 12, "vit_l_16": 24, "vit_l_32": 24, "vit_h_14": 32}

# The largest has SWAG's weights only. Pinned are those whose features never saw a label of
# ImageNet (its classes are a linear layer on top), at the usual 224 pixels.
PINNED: Final = {"vit_h_14": "IMAGENET1K_SWAG_LINEAR_V1"}

# The published files call the two layers of a block's perceptron linear_1 and linear_2.
RENAMED: Final = ((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3."))

# Tokens hold the class token first, and pooling over them counts it like any other. `patches`
# are the others, laid out as the (D, H, W) map that they come from.
CARDS = [
    declare(
        Network(
            name=name,
            paper="arXiv:2010.11929",
            weights=PINNED.get(name, "IMAGENET1K_V1"),
            sized=True,
            renamed=RENAMED,
            taps={
                "embedding": "encoder.dropout",
                **{
                    f"block{block}": f"encoder.layers.encoder_layer_{block - 1}"
                    for block in range(1, blocks + 1)
                },
                "tokens": "encoder.ln",
                "patches": At("encoder.ln", "patches"),
                "cls": At("encoder.ln", "class_token"),
                "logits": "heads",
            },
            aliases={"penultimate": "cls"},
        )
    )
    for name, blocks in BLOCKS.items()
]

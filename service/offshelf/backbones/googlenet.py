"""GoogLeNet (Inception v1) with batch normalisation, as torchvision has it."""

from __future__ import annotations

from offshelf.backbones.imagenet import Network, declare

CARD = declare(
    Network(
        name="googlenet",
        paper="arXiv:1409.4842",
        # The published weights want pixels mapped to [-1, 1]; the network does that itself.
        options={"aux_logits": False, "transform_input": True, "init_weights": True},
        ignored=("aux1.", "aux2."),
        taps={
            "conv1": "conv1",
            "pool1": "maxpool1",
            "conv2": "conv2",
            "conv3": "conv3",
            "pool2": "maxpool2",
            "inception3a": "inception3a",
            "inception3b": "inception3b",
            "pool3": "maxpool3",
            **{f"inception4{letter}": f"inception4{letter}" for letter in "abcde"},
            "pool4": "maxpool4",
            "inception5a": "inception5a",
            "inception5b": "inception5b",
            "pool5": "flatten",
            "logits": "fc",
        },
        aliases={"penultimate": "pool5"},
    )
)

"""AlexNet as torchvision has it: one column, no grouping, no local response normalisation."""

from __future__ import annotations

from offshelf.backbones.imagenet import Network, declare

CARD = declare(
    Network(
        name="alexnet",
        paper="arXiv:1404.5997",
        # Dropout comes before each fully connected layer, so it is not in the way.
        taps={
            "conv1": "features.1",
            "pool1": "features.2",
            "conv2": "features.4",
            "pool2": "features.5",
            "conv3": "features.7",
            "conv4": "features.9",
            "conv5": "features.11",
            "pool5": "features.12",
            "fc6": "classifier.2",
            "fc7": "classifier.5",
            "logits": "classifier.6",
        },
        aliases={"penultimate": "fc7"},
    )
)

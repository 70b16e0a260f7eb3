"""ResNet and its relatives ResNeXt and Wide ResNet (v1.5: the stride is in the 3 x 3 layer)."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.imagenet import Network, declare

PAPERS: Final = {
    "resnet18": "arXiv:1512.03385",
    "resnet34": "arXiv:1512.03385",
    "resnet50": "arXiv:1512.03385",
    "resnet101": "arXiv:1512.03385",
    "resnet152": "arXiv:1512.03385",
    "resnext50_32x4d": "arXiv:1611.05431",
    "resnext101_32x8d": "arXiv:1611.05431",
    "resnext101_64x4d": "arXiv:1611.05431",
    "wide_resnet50_2": "arXiv:1605.07146",
    "wide_resnet101_2": "arXiv:1605.07146",
}

# A stage ends in the ReLU of its last block; before it is the sum with the shortcut.
CARDS = [
    declare(
        Network(
            name=name,
            paper=paper,
            taps={
                "conv1": "relu",
                "pool1": "maxpool",
                **{f"conv{stage + 1}": f"layer{stage}" for stage in range(1, 5)},
                "pool5": "flatten",
                "logits": "fc",
            },
            aliases={
                **{f"layer{stage}": f"conv{stage + 1}" for stage in range(1, 5)},
                "penultimate": "pool5",
            },
        )
    )
    for name, paper in PAPERS.items()
]

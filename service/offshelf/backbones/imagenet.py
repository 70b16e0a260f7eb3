"""What torchvision's first ImageNet weights have in common: preprocessing, host and terms."""

from __future__ import annotations

from typing import Final

from offshelf.backbones.interface import PublishedWeights
from offshelf.core.spec import Preprocessing

PRESET: Final = Preprocessing(
    resize=256,
    crop=224,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

LICENCE: Final = (
    "Published by torchvision, whose code is BSD-3-Clause. Trained on ImageNet (ILSVRC-2012), "
    "whose terms allow non-commercial research and education; whether they bind the weights is "
    "for you to judge."
)


def published(filename: str, top1: float) -> PublishedWeights:
    """The `IMAGENET1K_V1` weights in torchvision's file of that name; `top1` is in per cent."""
    return PublishedWeights(
        name="IMAGENET1K_V1",
        url=f"https://download.pytorch.org/models/{filename}",
        sha256_prefix=filename.removesuffix(".pth").rsplit("-", 1)[-1],
        licence=LICENCE,
        top1=top1,
    )

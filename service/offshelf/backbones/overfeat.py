"""OverFeat's fast and accurate networks (Sermanet et al., ICLR 2014, tables 1 and 3).

Layer tables and preprocessing as the released networks' conversions to Torch have them: no
normalisation, no overlap in pooling, a single mean and deviation for all channels. Their
threshold answers 1e-6 for what is not positive where the ReLU here answers 0.
"""

from __future__ import annotations

from typing import Final

from offshelf.backbones.interface import register
from offshelf.backbones.layers import Conv, Full, Pool, Row
from offshelf.backbones.papers import plain_card

PAPER: Final = "arXiv:1312.6229"
MEAN: Final = 118.380948
STD: Final = 61.896913

FAST: Final = Row(
    231,
    {
        "conv1": Conv(96, 11, stride=4),
        "pool1": Pool(2, 2),
        "conv2": Conv(256, 5),
        "pool2": Pool(2, 2),
        "conv3": Conv(512, 3, padding=1),
        "conv4": Conv(1024, 3, padding=1),
        "conv5": Conv(1024, 3, padding=1),
        "pool5": Pool(2, 2),
        "fc6": Full(3072),
        "fc7": Full(4096),
        "fc8": Full(1000),
    },
)
ACCURATE: Final = Row(
    221,
    {
        "conv1": Conv(96, 7, stride=2),
        "pool1": Pool(3, 3),
        "conv2": Conv(256, 7),
        "pool2": Pool(2, 2),
        "conv3": Conv(512, 3, padding=1),
        "conv4": Conv(512, 3, padding=1),
        "conv5": Conv(1024, 3, padding=1),
        "conv6": Conv(1024, 3, padding=1),
        "pool6": Pool(3, 3),
        "fc7": Full(4096),
        "fc8": Full(4096),
        "fc9": Full(1000),
    },
)

CARDS: Final = (
    register(plain_card("overfeat_fast", FAST, PAPER, MEAN, STD)),
    register(plain_card("overfeat_accurate", ACCURATE, PAPER, MEAN, STD)),
)

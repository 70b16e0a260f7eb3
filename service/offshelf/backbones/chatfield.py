"""CNN-F, CNN-M and CNN-S of Chatfield et al., BMVC 2014, as their Caffe files have them.

Layer tables: the prototxt files of VGG_CNN_M_1024 and VGG_CNN_S in early commits of
rbgirshick/py-faster-rcnn, and MatConvNet's `cnn_imagenet_init` for CNN-F and the last pools. Where
they differ (MatConvNet's CNN-S normalises twice), the Caffe file counts: its weights are brought.
"""

from __future__ import annotations

from typing import Final

from offshelf.backbones.interface import register
from offshelf.backbones.layers import Conv, Full, Norm, Pool, Row
from offshelf.backbones.papers import VGG_MEAN, caffe_card

PAPER: Final = "arXiv:1405.3531"
NORM: Final = Norm(k=2.0, alpha=5e-4)

FAST: Final = Row(
    224,
    {
        "conv1": Conv(64, 11, stride=4),
        "norm1": NORM,
        "pool1": Pool(),
        "conv2": Conv(256, 5, padding=2),
        "norm2": NORM,
        "pool2": Pool(),
        "conv3": Conv(256, 3, padding=1),
        "conv4": Conv(256, 3, padding=1),
        "conv5": Conv(256, 3, padding=1),
        "pool5": Pool(),
        "fc6": Full(4096),
        "fc7": Full(4096),
        "fc8": Full(1000),
    },
)
MEDIUM: Final = FAST.with_layers(
    conv1=Conv(96, 7, stride=2),
    conv2=Conv(256, 5, stride=2, padding=1),
    conv3=Conv(512, 3, padding=1),
    conv4=Conv(512, 3, padding=1),
    conv5=Conv(512, 3, padding=1),
)
SLOW: Final = MEDIUM.with_layers(
    pool1=Pool(3, 3), conv2=Conv(256, 5), pool2=Pool(2, 2), pool5=Pool(3, 3)
).without("norm2")

ROWS: Final = {
    "cnn_f": FAST,
    "cnn_m": MEDIUM,
    "cnn_s": SLOW,
    # CNN-M with a narrower fc7.
    **{f"cnn_m_{width}": MEDIUM.with_layers(fc7=Full(width)) for width in (2048, 1024, 128)},
}
CARDS: Final = tuple(register(caffe_card(name, row, PAPER, VGG_MEAN)) for name, row in ROWS.items())

"""Caffe's two AlexNets, and R-CNN's nets on the body of the second.

Layer tables: BVLC/caffe `models/bvlc_alexnet`, `bvlc_reference_caffenet` and
`bvlc_reference_rcnn_ilsvrc13`; rbgirshick/rcnn `model-defs/pascal_finetune_deploy.prototxt`.
"""

from __future__ import annotations

from typing import Final

from offshelf.backbones.interface import register
from offshelf.backbones.layers import Conv, Full, Norm, Pool, Row
from offshelf.backbones.papers import caffe_card

ALEXNET: Final = Row(
    227,
    {
        "conv1": Conv(96, 11, stride=4),
        "norm1": Norm(),
        "pool1": Pool(),
        "conv2": Conv(256, 5, padding=2, groups=2),
        "norm2": Norm(),
        "pool2": Pool(),
        "conv3": Conv(384, 3, padding=1),
        "conv4": Conv(384, 3, padding=1, groups=2),
        "conv5": Conv(256, 3, padding=1, groups=2),
        "pool5": Pool(),
        "fc6": Full(4096),
        "fc7": Full(4096),
        "fc8": Full(1000),
    },
)
# It pools first and normalises what is left.
CAFFENET: Final = Row(
    227,
    {
        "conv1": Conv(96, 11, stride=4),
        "pool1": Pool(),
        "norm1": Norm(),
        "conv2": Conv(256, 5, padding=2, groups=2),
        "pool2": Pool(),
        "norm2": Norm(),
        **{name: ALEXNET.layers[name] for name in ("conv3", "conv4", "conv5", "pool5")},
        **{name: ALEXNET.layers[name] for name in ("fc6", "fc7", "fc8")},
    },
)

CARDS: Final = (
    register(caffe_card("caffe_alexnet", ALEXNET, "Krizhevsky et al., NIPS 2012")),
    register(caffe_card("caffenet", CAFFENET, "arXiv:1408.5093")),
    # R-CNN's linear SVMs for the 200 detection classes of ILSVRC13 as a layer, and the network
    # as it was fine-tuned to VOC's 20 classes and background.
    register(caffe_card("rcnn_ilsvrc13", CAFFENET.with_scores("fc-rcnn", 200), "arXiv:1311.2524")),
    register(caffe_card("rcnn_voc", CAFFENET.with_scores("fc8_pascal", 21), "arXiv:1311.2524")),
)

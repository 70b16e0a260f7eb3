"""DeCAF's own network: Krizhevsky's of 2012, trained by Donahue with cuda-convnet.

Layers as decaf-release translates them: CaffeNet's order (its successor), k of 1. That alpha is
1e-4 and size 5 is what reconstructions of the net say; the release has it in its weights file.
Pixels are RGB. The release turns the image upside down, since so the net was trained, and then
crops; here the crop comes first, so the window is one row higher (29 spare rows: 14 and 15).
"""

from __future__ import annotations

from offshelf.backbones.caffe import CAFFENET
from offshelf.backbones.interface import Alias, register
from offshelf.backbones.papers import caffe_card

CARD = register(
    caffe_card(
        "decaf",
        CAFFENET,
        "arXiv:1310.1531",
        channels="rgb",
        flip=True,
        # The paper's names.
        aliases={"decaf5": Alias("pool5"), "decaf6": Alias("fc6"), "decaf7": Alias("fc7")},
    )
)

"""The head alone as ONNX: features in; scores, labels and probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.engine.onnx.nodes import Nodes, model, needs_onnx, tensor
from offshelf.heads.exports.interface import FORMATS, Format
from offshelf.heads.onnx_scores import IMAGES, add_head, metadata_of

if TYPE_CHECKING:
    from offshelf.heads.model import LinearHead

FEATURES: Final = "features"


def pack(head: LinearHead) -> bytes:
    """A model from `features` (N, D) float32 to the outputs of `heads.onnx_scores.add_head`."""
    needs_onnx("onnx")
    nodes = Nodes("head")
    outputs = add_head(nodes, FEATURES, head)
    inputs = [tensor(FEATURES, np.float32, [IMAGES, head.coef.shape[1]])]
    made = model([nodes], inputs, outputs, metadata_of(head))
    return bytes(made.SerializeToString(deterministic=True))


FORMATS.add("onnx", Format("onnx", ".onnx", "application/octet-stream", pack))

"""Images in, scores out, as one ONNX file: preprocessing, network, features and head.

It needs torch, so a worker makes it: `offshelf.heads.onnx_full`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.core.spec import FeatureSpec
from offshelf.core.view import View
from offshelf.engine.onnx.views import check_exported
from offshelf.errors import InvalidParameter
from offshelf.heads.exports.interface import FORMATS, Format

if TYPE_CHECKING:
    from offshelf.schemas.heads import Head


def check(card: Head) -> None:
    """InvalidParameter for a head whose preprocessing has no ONNX form."""
    if len(card.regions) > 1:
        raise InvalidParameter(
            f"head {card.id} takes the regions {', '.join(card.regions)} of each image, which "
            "an image alone does not have; the formats safetensors, python and onnx hold the head"
        )
    check_exported(View.parse(FeatureSpec.from_dict(card.spec).view))


FORMATS.add("onnx-full", Format("onnx-full", ".onnx", "application/octet-stream", None, check))

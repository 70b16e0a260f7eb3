"""Weights and card in one safetensors file, which `unpack` and any safetensors reader read back."""

from __future__ import annotations

from typing import Final

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import ValidationError

from offshelf.errors import InvalidParameter
from offshelf.heads.exports.interface import FORMATS, Format
from offshelf.heads.features import read_metadata
from offshelf.heads.model import LinearHead
from offshelf.schemas.heads import Head

CARD: Final = "card"


def pack(head: LinearHead) -> bytes:
    """`coef` (K, D), `intercept` (K,), and in the metadata the `card` as JSON."""
    tensors = {
        "coef": np.ascontiguousarray(head.coef),
        "intercept": np.ascontiguousarray(head.intercept),
    }
    # One entry alone: safetensors writes several in an order that differs from time to time.
    return bytes(safetensors.numpy.save(tensors, {CARD: head.card.model_dump_json()}))


def unpack(data: bytes) -> LinearHead:
    """Inverse of `pack`; InvalidParameter for other bytes."""
    try:
        tensors, told = safetensors.numpy.load(data), read_metadata(data)
        card = Head.model_validate_json(told[CARD])
        return LinearHead(card, tensors["coef"], tensors["intercept"])
    except (safetensors.SafetensorError, KeyError, ValidationError) as error:
        raise InvalidParameter(f"not an exported head: {error}") from error


FORMATS.add("safetensors", Format("safetensors", ".safetensors", "application/octet-stream", pack))

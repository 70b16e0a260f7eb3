"""From how a network lays its values out to how they are handed out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from offshelf.backbones.interface import Kind, Layout


def arranged(layout: Layout, values: Tensor) -> Tensor:
    """What a node gave for a batch, laid out as `backbones.interface.Layout` says.

    Maps come as (N, C, H, W), tokens as (N, T, D), the class token as (N, D).
    """
    if layout == "channels_last":
        return values.permute(0, 3, 1, 2)
    if layout == "class_token":
        return values[:, 0]
    if layout == "patches":
        side = math.isqrt(values.shape[1] - 1)
        return values[:, 1:].transpose(1, 2).reshape(len(values), -1, side, side)
    return values


def poolable(kind: Kind, values: Tensor) -> Tensor:
    """Tokens (N, T, D) as a map with a place for each, (N, D, T, 1); anything else as it is."""
    return values.transpose(1, 2).unsqueeze(3) if kind == "tokens" else values

"""From what a network gave for an image's inputs to the feature that is handed out.

The order is the same everywhere: each input's map is pooled, the inputs of an image are merged,
what came of that is normalised (Chatfield et al., BMVC 2014, section 3; VGG, arXiv:1409.1556,
section C).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812  # its usual name

from offshelf.core.spec import Pooling

if TYPE_CHECKING:
    from offshelf.core.spec import Merge, Normalisation

_pooling = functools.lru_cache(maxsize=256)(Pooling.parse)


def pool(pooling: str, values: torch.Tensor) -> torch.Tensor:
    """Pool maps (N, C, H, W) as `core.spec.Pooling` describes; vectors stay as they are."""
    wanted = _pooling(pooling)
    if values.ndim != 4 or wanted.kind == "none":
        return values
    if wanted.cells == 1:
        return values.mean((2, 3)) if wanted.kind == "avg" else values.amax((2, 3))
    adaptive = F.adaptive_avg_pool2d if wanted.kind == "avg" else F.adaptive_max_pool2d
    return adaptive(values, wanted.cells).flatten(1)


def merge(how: Merge, values: torch.Tensor) -> torch.Tensor:
    """One feature an image of values (N, k, ...): their mean, all in a row, or (N, k, ...)."""
    if how == "stack":
        return values
    if how == "concat":
        return values.flatten(1, 2)
    return values.squeeze(1) if values.shape[1] == 1 else values.mean(1)


def normalise(how: Normalisation, values: torch.Tensor, leading: int = 1) -> torch.Tensor:
    """Normalise the features that follow the first `leading` axes, each as one vector.

    A feature of zeros has no direction: it stays zero.
    """
    if how == "none":
        return values
    norms = torch.linalg.vector_norm(values.flatten(leading), dim=-1)
    norms = torch.where(norms > 0, norms, torch.ones_like(norms))
    return values / norms.view(*norms.shape, *[1] * (values.ndim - leading))

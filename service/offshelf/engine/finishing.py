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

from offshelf.core.normalisation import Chain, Step
from offshelf.core.spec import Pooling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offshelf.core.spec import Merge

_pooling = functools.lru_cache(maxsize=256)(Pooling.parse)
_chain = functools.lru_cache(maxsize=256)(Chain.parse)


def pool(pooling: str, values: torch.Tensor) -> torch.Tensor:
    """Pool maps (N, C, H, W) as `core.spec.Pooling` describes; vectors stay as they are."""
    wanted = _pooling(pooling)
    if values.ndim != 4 or wanted.kind == "none":
        return values
    if wanted.levels == (1,):
        return values.mean((2, 3)) if wanted.kind == "avg" else values.amax((2, 3))
    adaptive = F.adaptive_avg_pool2d if wanted.kind == "avg" else F.adaptive_max_pool2d
    return torch.cat([adaptive(values, cells).flatten(1) for cells in wanted.levels], 1)


def merge(how: Merge, values: torch.Tensor) -> torch.Tensor:
    """One feature an image of values (N, k, ...): their mean, all in a row, or (N, k, ...)."""
    if how == "stack":
        return values
    if how == "concat":
        return values.flatten(1, 2)
    return values.squeeze(1) if values.shape[1] == 1 else values.mean(1)


def normalise(
    how: str,
    values: torch.Tensor,
    leading: int = 1,
    whitenings: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> torch.Tensor:
    """Normalise the features that follow the first `leading` axes, each as one vector.

    `whitenings` has the mean (D,) and the matrix (K, D) of each whitening by its digest; what
    they give is vectors of K.
    """
    for step in _chain(how).steps:
        if step.kind == "whiten":
            mean, matrix = (whitenings or {})[step.digest]
            values = F.linear(values.flatten(leading) - mean, matrix)
        else:
            values = _step(step, values, leading)
    return values


def _step(step: Step, values: torch.Tensor, leading: int) -> torch.Tensor:
    """A feature of zeros has no direction: it stays zero, as zeros do under any power."""
    if step.kind == "power":
        return values.sign() * values.abs().pow(step.power)
    return _unit(values.flatten(leading)).view_as(values)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """Each divided by its norm, first scaled so that no square leaves the range of float32.

    Powers of two change no digit. Without them a row of 1e20, as `power` makes it, has an
    infinite norm and would become zeros, and one of 1e-25 would have none.
    """
    exponents = torch.frexp(rows.abs().amax(-1, keepdim=True)).exponent.clamp(-126, 126)
    rows = torch.ldexp(rows, -exponents)
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norms > 0, norms, torch.ones_like(norms))

"""A preconditioner of the Newton systems: exact where the images vary most, a number elsewhere.

Features of a network have few directions of large variance and many of small; conjugate gradients
spend their steps on the few. In a basis of them, the same for all columns, a column's Hessian is a
small matrix, which costs half a product to make and is solved exactly; so two or three times fewer
steps are left (measured). The intercept is one more direction. In all the others a column's
Hessian is taken to be the same multiple of one, so that what is exact and what is not are of one
size: without that a third more products at large C's (measured).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from offshelf.heads.solver.products import Product

if TYPE_CHECKING:
    from torch import Tensor

    from offshelf.heads.solver.spaces import Space

LARGEST: Final = 64
ROUNDS: Final = 2
SEED: Final = 0
# Directions that vary less than this part of the first, in units of the last place, are noise.
# Of so many units a basis is taken to be off.
ROUNDED: Final = 100
# The curvature of the other directions is taken to be so many times their mean: conjugate gradients
# wish for the largest rather. Anything from 10 to 30 is as good (measured).
STEEPER: Final = 12.0
TINY: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Basis:
    """R directions of the weights, orthonormal: `v` (rows, R) and their `scores` (N, R).

    `pairs` makes of second derivatives (N, columns) the lower triangles of the columns' Hessians,
    in the directions and a last one: a constant, for the intercept. `rest` is the mean square of an
    image's part in a direction that is not of the basis.
    """

    v: Tensor
    scores: Tensor
    pairs: Product
    rest: float

    @classmethod
    def of(cls, space: Space) -> Basis:
        """By subspace iteration; as many directions as keep `pairs` below half the space's size."""
        rank = max(min(int(math.sqrt(min(space.rows, space.images))), LARGEST) - 1, 0)
        generator = torch.Generator().manual_seed(SEED)
        start = torch.randn(space.images, rank, generator=generator, dtype=space.dtype)
        v, scores = _orthonormal(space, space.adjoint(start.to(space.device)))
        for _ in range(ROUNDS):
            v, scores = _orthonormal(space, space.adjoint(scores))
        known = torch.cat([scores.T, scores.new_ones(1, space.images)])
        first, second = torch.tril_indices(len(known), len(known), device=space.device)
        left = space.size - float(scores.square().sum()) / max(space.images, 1)
        others = max(min(space.rows, space.images) - v.shape[1], 1)
        return cls(v, scores, Product(known[first] * known[second]), max(left, 0.0) / others)

    @property
    def triangle(self) -> Tensor:
        """Row and column numbers of what `pairs` makes."""
        size = self.v.shape[1] + 1
        return torch.tril_indices(size, size, device=self.v.device)


def _orthonormal(space: Space, v: Tensor) -> tuple[Tensor, Tensor]:
    """Another basis of the same directions and its scores; fewer where they are dependent."""
    scores = space.scores(v)
    products = space.inner(v, v, scores).double()
    size, axes = torch.linalg.eigh((products + products.T) / 2)
    least = ROUNDED * torch.finfo(v.dtype).eps * size.amax() if len(size) else 0.0
    kept = size > max(float(least), TINY)
    mix = (axes[:, kept] / size[kept].sqrt()).to(v.dtype)
    return v @ mix, scores @ mix


@dataclass(frozen=True, slots=True)
class Preconditioner:
    """Inverse Cholesky factors (columns, R + 1, R + 1) of the Hessians in basis and intercept.

    `rest` (columns,) is the inverse of the Hessians in all other directions.
    """

    space: Space
    unfactor: Tensor
    rest: Tensor

    @classmethod
    def of(
        cls, space: Space, diagonal: Tensor, penalty: float, *, intercept: bool
    ) -> Preconditioner:
        """`diagonal` (N, P, K) are the loss's second derivatives, each score by itself."""
        basis = space.basis
        rank = basis.v.shape[1]
        packed = basis.pairs(diagonal.flatten(1)).T
        first, second = basis.triangle
        hessian = packed.new_empty((len(packed), rank + 1, rank + 1))
        hessian[:, first, second] = packed
        hessian[:, second, first] = packed
        if not intercept:
            hessian[:, rank], hessian[:, :, rank] = 0, 0
        own = hessian.diagonal(dim1=1, dim2=2)
        own[:, :rank] += 1
        own[:, rank] += penalty + TINY if intercept else 1
        own *= 1 + ROUNDED * torch.finfo(own.dtype).eps
        factor, failed = torch.linalg.cholesky_ex(hessian)
        plain = torch.diag_embed(own.sqrt())
        rest = 1 / (1 + STEEPER * basis.rest * diagonal.flatten(1).sum(0))
        factor = torch.where(failed[:, None, None] > 0, plain, factor)
        ones = torch.eye(rank + 1, dtype=own.dtype, device=own.device)
        return cls(space, torch.linalg.solve_triangular(factor, ones, upper=False), rest)

    def withheld(self, v: Tensor, scores: Tensor) -> Tensor:
        """What the squared norms (columns,) are more by where the other directions count as flat.

        With this a gradient's norm is no less than by the inverse of the Hessian there.
        """
        v, scores = v.flatten(1), scores.flatten(1)
        along = self.space.inner(self.space.basis.v, v, scores)
        whole = self.space.dot(v[:, :, None], v[:, :, None], scores[:, :, None])
        return (1 - self.rest) * (whole - along.square().sum(0)).clamp(min=0)

    def take(self, problems: Tensor, columns: int) -> Preconditioner:
        """Of some of the problems, which have so many columns each."""
        kept = self.unfactor.reshape(-1, columns, *self.unfactor.shape[1:])[problems]
        rest = self.rest.reshape(-1, columns)[problems].flatten()
        return Preconditioner(self.space, kept.flatten(0, 1), rest)

    def __call__(self, v: Tensor, scores: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What it makes of weights (rows, P, K), their scores and intercepts (P, K)."""
        basis = self.space.basis
        along = self.space.inner(basis.v, v.flatten(1), scores.flatten(1))
        right = torch.cat([along, bias.reshape(1, -1)]).T[:, :, None]
        solved = (self.unfactor.mT @ (self.unfactor @ right))[:, :, 0].T
        # Not the whole of `along` is taken out: the basis is orthonormal up to rounding only.
        rest = self.rest
        change = solved[:-1] - (1 - ROUNDED * torch.finfo(v.dtype).eps) * rest * along
        return (
            (v.flatten(1) * rest).addmm_(basis.v, change).reshape(v.shape),
            (scores.flatten(1) * rest).addmm_(basis.scores, change).reshape(scores.shape),
            solved[-1].reshape(bias.shape),
        )

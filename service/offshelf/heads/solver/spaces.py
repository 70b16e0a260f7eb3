"""Where the weights live: as such, or as a combination of the images (the Gram side).

Any solution of an L2-regularised linear problem is `w = X' v` with one coefficient an image (the
representer theorem). With fewer images than dimensions it is cheaper to iterate on v: the scores
are `G v` with the Gram matrix G = X X', the gradient's coefficients are the loss's slopes
themselves, and one product with G replaces two with X. Dot products are those of the weights on
both sides, so that a method does the same steps, whichever side it runs on.

Vectors are tensors (rows, P, K): P independent problems of K coupled columns each.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

import torch

from offshelf.heads.solver.precondition import Basis
from offshelf.heads.solver.products import Product, gram

if TYPE_CHECKING:
    from torch import Tensor

TINY: Final = 1e-30


class Space(Protocol):
    """The weights of a problem, a linear map from them to scores, and its adjoint."""

    rows: int
    images: int
    dtype: torch.dtype
    device: torch.device
    size: float  # the mean squared norm of the images

    @property
    def basis(self) -> Basis:
        """The directions in which the images vary most."""
        ...

    def scores(self, v: Tensor) -> Tensor:
        """Scores (N, P, K) of weights v, without the intercept."""
        ...

    def adjoint(self, slopes: Tensor) -> Tensor:
        """`X' slopes`: what a change of the scores (N, P, K) means for the weights."""
        ...

    def dot(self, a: Tensor, b: Tensor, scores_b: Tensor) -> Tensor:
        """Inner product (P,) of the weights that a and b stand for; `scores_b` is `scores(b)`."""
        ...

    def inner(self, a: Tensor, b: Tensor, scores_b: Tensor) -> Tensor:
        """Inner products (R, P) of the weights that each of a and each of b stand for."""
        ...

    def block(self, images: Tensor) -> Tensor:
        """The Gram matrix of some of the images, a new one."""
        ...

    def regress(self, target: Tensor, weight: Tensor) -> Tensor:
        """Least squares: the v (rows, P) that minimise `|w|^2 / 2 + sum weight (target - X w)^2`.

        `target` is (N, P) and `weight` (N,), both float64, as is the answer.
        """
        ...


class FeatureSpace:
    """The weights themselves: rows are the D dimensions."""

    def __init__(self, X: Tensor) -> None:
        (self.images, self.rows), self.dtype, self.device = X.shape, X.dtype, X.device
        self._X, self.size = X, float(X.square().sum(1).mean())
        self._forward, self._backward = Product(X), Product(X.T)

    @cached_property
    def basis(self) -> Basis:
        """See `Space`."""
        return Basis.of(self)

    def scores(self, v: Tensor) -> Tensor:
        """`X v`."""
        return self._forward(v)

    def adjoint(self, slopes: Tensor) -> Tensor:
        """`X' slopes`."""
        return self._backward(slopes)

    def dot(self, a: Tensor, b: Tensor, scores_b: Tensor) -> Tensor:  # noqa: ARG002 - see Space
        """The plain inner product."""
        return (a * b).sum((0, 2))

    def inner(self, a: Tensor, b: Tensor, scores_b: Tensor) -> Tensor:  # noqa: ARG002 - see Space
        """The plain inner products."""
        return a.T @ b

    def block(self, images: Tensor) -> Tensor:
        """See `Space`."""
        return gram(self._X[images])

    def regress(self, target: Tensor, weight: Tensor) -> Tensor:
        """By the normal equations."""
        weighted = self._X.T * (2 * weight).sqrt().to(self._X.dtype)
        system = gram(weighted).double()
        system.diagonal().add_(1)
        right = self._X.T.double() @ (2 * weight[:, None] * target)
        return torch.cholesky_solve(right, torch.linalg.cholesky(system))


class GramSpace:
    """One coefficient an image: rows are the N images, and w = X' v."""

    def __init__(self, G: Tensor) -> None:
        self.images = self.rows = len(G)
        self.dtype, self.device, self.size = G.dtype, G.device, float(G.diagonal().mean())
        self._G, self._gram = G, Product(G)

    @cached_property
    def basis(self) -> Basis:
        """See `Space`."""
        return Basis.of(self)

    def scores(self, v: Tensor) -> Tensor:
        """`G v`."""
        return self._gram(v)

    def adjoint(self, slopes: Tensor) -> Tensor:
        """The slopes themselves."""
        return slopes

    def dot(self, a: Tensor, b: Tensor, scores_b: Tensor) -> Tensor:  # noqa: ARG002 - see Space
        """`a' G b`."""
        return (a * scores_b).sum((0, 2))

    def inner(self, a: Tensor, b: Tensor, scores_b: Tensor) -> Tensor:  # noqa: ARG002 - see Space
        """`a' G b`."""
        return a.T @ scores_b

    def block(self, images: Tensor) -> Tensor:
        """See `Space`."""
        return self._G[images[:, None], images]

    def regress(self, target: Tensor, weight: Tensor) -> Tensor:
        """By the dual's; an image of no weight gets no coefficient."""
        system = self._G.double()
        system = system.clone() if system is self._G else system
        system.diagonal().add_(1 / (2 * weight + TINY))
        return torch.cholesky_solve(target, torch.linalg.cholesky(system))

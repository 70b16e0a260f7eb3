"""The losses of the heads, of all columns at once: value, slope and curvature at given scores.

Scores are (N, P, K): P independent problems of K coupled columns. `weight` broadcasts against them
and holds C and the weights of images and classes. One-vs-rest losses have K = 1, and their targets
are +1 or -1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, Self

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

TINY: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Local:
    """A loss at some scores: its sum (P,), its slopes (N, P, K), and what the curvature needs."""

    value: Tensor
    slope: Tensor
    shape: Tensor


class Loss(Protocol):
    """A convex function of the scores."""

    @property
    def sparse(self) -> bool:
        """Whether most images have no curvature."""
        ...

    def at(self, scores: Tensor) -> Local:
        """Everything about the loss at these scores."""
        ...

    def bend(self, local: Local, direction: Tensor) -> Tensor:
        """The (generalised) Hessian at `local` times a direction (N, P, K)."""
        ...

    def diagonal(self, local: Local) -> Tensor:
        """The Hessian's diagonal (N, P, K)."""
        ...

    def constant_step(self, local: Local, pull: Tensor, penalty: float) -> Tensor:
        """The Newton step (P, K) of constants alone that are added to the columns' scores.

        `pull` is the gradient; `penalty` times the squared constant, halved, is to be added.
        """
        ...

    def take(self, problems: Tensor) -> Self:
        """The same loss for some of the P problems."""
        ...


@dataclass(frozen=True, slots=True)
class OneVsRest:
    """What the losses with one target a column share. `target` is (N, P, 1), `weight` likewise."""

    sparse: ClassVar[bool] = True

    target: Tensor
    weight: Tensor

    def bend(self, local: Local, direction: Tensor) -> Tensor:
        """`shape` is the second derivative."""
        return local.shape * direction

    def diagonal(self, local: Local) -> Tensor:
        """The second derivatives."""
        return local.shape

    def constant_step(self, local: Local, pull: Tensor, penalty: float) -> Tensor:
        """By the sum of the second derivatives."""
        return pull / (local.shape.sum(0) + penalty).clamp(min=TINY)

    def take(self, problems: Tensor) -> Self:
        """Columns of the target, and of the weight where it has any of its own."""
        weight = self.weight
        weight = weight if weight.shape[1] == 1 else weight[:, problems]
        return replace(self, target=self.target[:, problems], weight=weight)


@dataclass(frozen=True, slots=True)
class SquaredHinge(OneVsRest):
    """`max(0, 1 - t f)^2` (LIBLINEAR's L2-loss SVM)."""

    def at(self, scores: Tensor) -> Local:
        """See `Loss`."""
        short = (1 - self.target * scores).clamp_(min=0)
        weighted = self.weight * short
        shape = (short > 0) * (2 * self.weight)
        return Local((weighted * short).sum((0, 2)), -2 * self.target * weighted, shape)


@dataclass(frozen=True, slots=True)
class SmoothHinge(OneVsRest):
    """`max(0, 1 - t f)` with its corner rounded: quadratic where the margin is short by < `width`.

    It is below the hinge, by `width / 2` at most.
    """

    width: float = 1.0

    def at(self, scores: Tensor) -> Local:
        """See `Loss`."""
        short = (1 - self.target * scores).clamp_(min=0)
        inside = short.clamp(max=self.width)
        value = inside * (short - inside / 2) / self.width
        shape = ((short > 0) & (short < self.width)) * (self.weight / self.width)
        slope = -self.target * self.weight * inside / self.width
        return Local((self.weight * value).sum((0, 2)), slope, shape)


@dataclass(frozen=True, slots=True)
class Squared(OneVsRest):
    """`(t - f)^2`: ridge regression of the targets."""

    sparse: ClassVar[bool] = False

    def at(self, scores: Tensor) -> Local:
        """See `Loss`."""
        short = self.target - scores
        weighted = self.weight * short
        shape = 2 * self.weight.expand_as(short)
        return Local((weighted * short).sum((0, 2)), -2 * weighted, shape)


@dataclass(frozen=True, slots=True)
class Logistic(OneVsRest):
    """`log(1 + exp(-t f))`."""

    sparse: ClassVar[bool] = False

    def at(self, scores: Tensor) -> Local:
        """See `Loss`."""
        margin = self.target * scores
        wrong = torch.sigmoid(-margin)
        shape = self.weight * wrong * torch.sigmoid(margin)
        value = (self.weight * functional.softplus(-margin, threshold=1e9)).sum((0, 2))
        return Local(value, -self.target * self.weight * wrong, shape)


@dataclass(frozen=True, slots=True)
class Softmax:
    """`log sum_j exp(f_j) - f_y`. `label` is (N,), of the K columns; `weight` is (N or 1, P, 1)."""

    sparse: ClassVar[bool] = False

    label: Tensor
    weight: Tensor

    def at(self, scores: Tensor) -> Local:
        """See `Loss`.

        Relative to the score of the true class: a loss that is far below 1 keeps its digits in
        float32, and so does its slope, which is minus the sum of the other classes' there.
        """
        index = self.label.view(-1, 1, 1).expand(*scores.shape[:2], 1)
        odds = scores - scores.gather(2, index)
        top = odds.amax(2, keepdim=True)
        odds.sub_(top).exp_().scatter_(2, index, 0.0)
        own = torch.exp(-top)
        others = odds.sum(2, keepdim=True)
        total = others + own
        value = torch.where(top < 1, torch.log1p(others / own), top + torch.log(total))
        shares = odds.div_(total)
        slope = shares.scatter(2, index, -others / total).mul_(self.weight)
        return Local(
            (self.weight * value).sum((0, 2)), slope, shares.scatter_(2, index, own / total)
        )

    def bend(self, local: Local, direction: Tensor) -> Tensor:
        """`shape` is the probabilities p; the Hessian is diag(p) - p p'."""
        bent = local.shape * direction
        bent.addcmul_(local.shape, bent.sum(2, keepdim=True), value=-1)
        return bent.mul_(self.weight)

    def diagonal(self, local: Local) -> Tensor:
        """`p (1 - p)`."""
        return torch.addcmul(local.shape, local.shape, local.shape, value=-1).mul_(self.weight)

    def constant_step(self, local: Local, pull: Tensor, penalty: float) -> Tensor:
        """By the Hessian of all columns; the same for all of them, which is flat, is left out."""
        shares = (self.weight * local.shape).transpose(0, 1)
        hessian = torch.diag_embed(shares.sum(1)) - shares.mT @ local.shape.transpose(0, 1)
        own = hessian.diagonal(dim1=1, dim2=2)
        hessian += own.mean(1)[:, None, None] + TINY
        own += penalty + torch.finfo(own.dtype).eps * own
        step: Tensor = torch.linalg.solve_ex(hessian, pull[:, :, None]).result[:, :, 0]
        return step.nan_to_num()

    def take(self, problems: Tensor) -> Self:
        """Columns of the weight, where it has any of its own."""
        weight = self.weight
        return replace(self, weight=weight if weight.shape[1] == 1 else weight[:, problems])

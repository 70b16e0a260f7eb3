"""What a head has to learn: a loss, targets and weights, for any C."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import torch

from offshelf.heads.solver import active
from offshelf.heads.solver.losses import (
    Local,
    Logistic,
    SmoothHinge,
    Softmax,
    Squared,
    SquaredHinge,
)
from offshelf.heads.solver.newton import Minimum, Point, minimise

if TYPE_CHECKING:
    from torch import Tensor

    from offshelf.heads.solver.losses import Loss
    from offshelf.heads.solver.newton import Rules
    from offshelf.heads.solver.spaces import Space

LossName = Literal["squared_hinge", "hinge", "logistic", "softmax", "squared"]
# A start of zero is good where C times the images' squared norm is below EASY; above that it pays
# to go there by tens, within ROUGH of each minimum.
EASY: Final = 0.1
ROUGH: Final = 1e-2
# The hinge's corner is rounded, and that less and less until what the rounding can hide is below
# HINGE_TOL of the objective.
HINGE_TOL: Final = 1e-4
WIDEST: Final = 2.0
NARROWEST: Final = 1e-9
# Once narrower than NARROW, a gap that is WORSE times the best says that the digits are used up.
NARROW: Final = 0.05
WORSE: Final = 10.0
NARROWER: Final = 0.2
# A heavy image on the rounded corner shows in the hinge's objective and hardly in the rounded one,
# which is taken to so many units of the last place, therefore. It costs a step.
DIGITS: Final = 100
TINY: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Task:
    """Targets of N images: labels (N,) for softmax, else +1 and -1 (N, P). Weights (N, 1 or P)."""

    loss: LossName
    target: Tensor
    weight: Tensor
    columns: int

    @property
    def coupled(self) -> bool:
        """Whether the columns are one problem, not one each."""
        return self.loss == "softmax"

    @property
    def problems(self) -> int:
        """P: of independent problems."""
        return 1 if self.coupled else self.columns

    def rows(self, rows: Tensor) -> Task:
        """Of some of the images."""
        return replace(self, target=self.target[rows], weight=self.weight[rows])

    def take(self, problems: Tensor) -> Task:
        """Some of the problems; a task whose columns are one problem is taken whole."""
        if self.coupled:
            return self
        weight = self.weight if self.weight.shape[1] == 1 else self.weight[:, problems]
        return replace(self, target=self.target[:, problems], weight=weight, columns=len(problems))

    def without_single_sided(self) -> Task:
        """With no weight on columns whose images are all on one side: there is nothing to learn.

        A free intercept of the logistic loss would run away there.
        """
        if self.coupled:
            return self
        live = self.weight > 0
        one_sided = ~(((self.target > 0) & live).any(0) & ((self.target < 0) & live).any(0))
        if not one_sided.any():
            return self
        weight = self.weight.expand_as(self.target).clone()
        weight[:, one_sided] = 0
        return replace(self, weight=weight)

    def to(self, dtype: torch.dtype) -> Task:
        """With weights, and targets that are not labels, of another precision."""
        target = self.target if self.coupled else self.target.to(dtype)
        return replace(self, target=target, weight=self.weight.to(dtype))

    def at(self, C: Tensor, width: float = 1.0) -> Loss:
        """The loss with its weights times C, which is one number or one a problem."""
        weight = (self.weight * C)[:, :, None]
        if self.loss == "softmax":
            return Softmax(self.target, weight)
        target = self.target[:, :, None]
        if self.loss == "hinge":
            return SmoothHinge(target, weight, width)
        kinds: dict[str, type[SquaredHinge | Logistic | Squared]] = {
            "squared_hinge": SquaredHinge,
            "logistic": Logistic,
            "squared": Squared,
        }
        return kinds[self.loss](target, weight)

    def value(self, C: Tensor, total: Tensor) -> Tensor:
        """The loss (P,) at scores with intercept; of the hinge, with its corner."""
        return self.at(C, TINY).at(total).value

    def start(self, space: Space) -> Point:
        """Weights of zero."""
        shape = (self.problems, self.columns // self.problems)
        zeros = self.weight.new_zeros
        return Point(zeros(space.rows, *shape), zeros(space.images, *shape), zeros(shape))

    def tolerance(self, rules: Rules) -> float:
        """The relative gap that is asked of this loss."""
        return max(rules.tol, HINGE_TOL) if self.loss == "hinge" else rules.tol

    def minimise(self, space: Space, C: Tensor, start: Point | None, rules: Rules) -> Minimum:
        """The head for C, from a guess; without one by way of smaller Cs."""
        if start is None:
            start = self._climb(space, C, rules)
        if self.loss == "hinge":
            return self._sharpen(space, C, start, rules)
        if self.loss == "squared":
            return self._regress(space, C, rules)
        return minimise(space, self.at(C), start, rules)

    def _climb(self, space: Space, C: Tensor, rules: Rules) -> Point:
        """A guess: roughly the heads of C / 10, C / 100, ... of which the least is easy."""
        point = self.start(space)
        if self.loss in ("hinge", "squared"):
            return point
        rules = replace(rules, tol=max(rules.tol, ROUGH))
        ratio = float(C.max()) * space.size / EASY
        for rung in range(int(math.log10(max(ratio, 1.0))), 0, -1):
            point = minimise(space, self.at(C / 10**rung), point, rules).point
        return point

    def _sharpen(self, space: Space, C: Tensor, start: Point, rules: Rules) -> Minimum:
        """The hinge, with its corner rounded, less and less.

        The slopes there are nearly dual feasible for the hinge, and so the gap is known.
        """
        rounded_tol = DIGITS * torch.finfo(self.weight.dtype).eps
        rules = replace(rules, tol=min(self.tolerance(rules) / 10, rounded_tol))
        width, steps, products, best = WIDEST, 0, 0, None
        while True:
            loss = self.at(C, width)
            found = minimise(space, loss, start, rules)
            steps, products = steps + found.newton_steps, products + found.products
            total = found.point.total()
            rounded, lost = loss.at(total), self.value(C, total)
            value = found.objective + lost - rounded.value
            left = value - hinge_dual(space, self.target[:, :, None], rounded.slope, rules)
            gap, products = left / value.clamp(min=TINY), products + 1
            if best is None or bool(gap.max() < best.gap.max()):
                best = Minimum(found.point, value, gap, steps, products)
            elif width < NARROW and bool(gap.max() > WORSE * best.gap.max()):
                return replace(best, newton_steps=steps, products=products)
            if bool((best.gap <= self.tolerance(rules)).all()) or width < NARROWEST:
                return replace(best, newton_steps=steps, products=products)
            start = self._narrowed(space, C, found.point, width, rules)
            width = width * NARROWER

    def _narrowed(self, space: Space, C: Tensor, point: Point, width: float, rules: Rules) -> Point:
        """Where the minimum goes if the images on the rounded corner stay there as it narrows.

        Their coefficients hardly change, so their margins must; a Newton step from where the
        corner was would lose most of them.
        """
        total = point.total()
        here = self.at(C, width).at(total)
        bent = here.shape / NARROWER
        slope = torch.where(bent != 0, (total - self.target[:, :, None]) * bent, here.slope)
        coefficients, bias = active.solve(space, Local(here.value, slope, bent), point, rules)
        v = space.adjoint(coefficients)
        there = Point(v, space.scores(v), bias)
        narrow = self.at(C, width * NARROWER)
        better = _objective(space, narrow, there, rules) < _objective(space, narrow, point, rules)
        return point.moved(
            Point(v - point.v, there.scores - point.scores, bias - point.bias), better.to(v.dtype)
        )

    def _regress(self, space: Space, C: Tensor, rules: Rules) -> Minimum:
        """Ridge regression of the targets, in closed form."""
        target, weight = self.target.double(), (self.weight * C).double()
        shared = weight.shape[1] == 1
        parts = [slice(None)] if shared else [slice(k, k + 1) for k in range(self.columns)]
        v, bias = [], []
        for part in parts:
            rules.check()
            one = weight[:, 0 if shared else part.start]
            solved, constant = _least_squares(space, target[:, part], one, rules)
            v.append(solved)
            bias.append(constant)
        found = torch.cat(v, 1)[:, :, None].to(self.weight.dtype)
        point = Point(found, space.scores(found), torch.cat(bias)[:, None].to(found.dtype))
        size = space.dot(found, found, point.scores) + rules.penalty * point.bias[:, 0].square()
        value = size / 2 + self.at(C).at(point.total()).value
        return Minimum(point, value, torch.zeros_like(value), len(parts), 2 * len(parts))


def hinge_dual(space: Space, target: Tensor, slope: Tensor, rules: Rules) -> Tensor:
    """A lower bound (P,) of the hinge's least objective, from slopes of a rounded one (N, P, 1).

    Their negatives times the targets are within the box of the dual. With an intercept that is
    free the two sides must balance as well: the heavier one is scaled down.
    """
    dual = -slope * target
    if rules.intercept and not rules.penalty:
        up, down = (dual.where(target * side > 0, 0.0).sum(0) for side in (1, -1))
        least = torch.minimum(up, down)
        scale = torch.where(target > 0, least / up.clamp(min=TINY), least / down.clamp(min=TINY))
        dual = dual * scale
    v = space.adjoint(dual * target)
    size = space.dot(v, v, space.scores(v))
    if rules.penalty and rules.intercept:
        size = size + (dual * target).sum((0, 2)).square() / rules.penalty
    return dual.sum((0, 2)) - size / 2


def _objective(space: Space, loss: Loss, point: Point, rules: Rules) -> Tensor:
    size = space.dot(point.v, point.v, point.scores) + rules.penalty * point.bias.square().sum(1)
    return size / 2 + loss.at(point.total()).value


def _least_squares(
    space: Space, target: Tensor, weight: Tensor, rules: Rules
) -> tuple[Tensor, Tensor]:
    """Weights (rows, P) and intercepts (P,) of ridge regression."""
    ones = torch.ones_like(target[:, :1])
    solved = space.regress(torch.cat([target, ones], 1), weight)
    if not rules.intercept:
        return solved[:, :-1], torch.zeros_like(target[0])
    left = torch.cat([target, ones], 1) - space.scores(solved.to(space.dtype))
    pulls = 2 * weight @ left
    bias = pulls[:-1] / (rules.penalty + pulls[-1])
    return solved[:, :-1] - solved[:, -1:] * bias, bias

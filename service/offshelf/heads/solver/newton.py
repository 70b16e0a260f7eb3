"""Newton's method with conjugate gradients for any of the losses, many problems in step.

The generalised Newton method of the L2-loss SVM (Keerthi & DeCoste 2005) and truncated Newton for
logistic regression (Lin, Weng & Keerthi 2008) are one method here: the loss says what its Hessian
does to a direction, the conjugate gradients run for all problems side by side, so that each of
their steps is one matrix product, and an exact search along the step needs none. Scores are linear
in the weights and are carried along.

When to stop: what is left to gain is about half of the gradient's squared norm by the inverse of
the Hessian, for which the preconditioner stands, and the whole of that norm is taken; and a Newton
step tells what it gains, which is nearly all when little of its system's residual is left. Both
are estimates; what ends up as a head gets a bound besides (`solve.certify`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch

from offshelf.heads.solver import active
from offshelf.heads.solver.precondition import Preconditioner

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from offshelf.heads.solver.losses import Local, Loss
    from offshelf.heads.solver.spaces import Space

# Conjugate gradients end when a step brings less than this part of the mean step so far.
FORCING: Final = 0.1
# The search along a step ends when the slope there is this part of the first.
SEARCH: Final = 0.25
SEARCH_STEPS: Final = 12
# So many Newton steps in a row that gain nothing: the digits of the precision are used up.
STALLED: Final = 3
# A step that gains less of the objective leaves the curvature nearly as it was.
STALE: Final = 1e-3
TINY: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Point:
    """Weights v (rows, P, K), the scores they give (N, P, K), and the intercepts (P, K)."""

    v: Tensor
    scores: Tensor
    bias: Tensor

    def moved(self, step: Point, by: Tensor) -> Point:
        """Along `step`, problem by problem: `by` is (P,)."""
        by = by[:, None]
        return Point(
            torch.addcmul(self.v, by, step.v),
            torch.addcmul(self.scores, by, step.scores),
            torch.addcmul(self.bias, by, step.bias),
        )

    def total(self) -> Tensor:
        """Scores with the intercept."""
        return self.scores + self.bias

    def take(self, problems: Tensor) -> Point:
        """Some of the problems."""
        return Point(self.v[:, problems], self.scores[:, problems], self.bias[problems])

    def put(self, problems: Tensor, point: Point) -> None:
        """Write some of the problems."""
        self.v[:, problems] = point.v
        self.scores[:, problems] = point.scores
        self.bias[problems] = point.bias

    def copy(self) -> Point:
        """One with memory of its own."""
        return Point(self.v.clone(), self.scores.clone(), self.bias.clone())


@dataclass(frozen=True, slots=True)
class Rules:
    """How to minimise. `tol` is the relative gap of the objective.

    `penalty` times the squared intercept, halved, is part of the objective; without `intercept`
    there is none. `check` is called all along, and what it raises ends the work.
    """

    tol: float = 1e-6
    penalty: float = 0.0
    intercept: bool = True
    max_newton: int = 100
    max_cg: int = 300
    check: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where it ended: objectives (P,), what may be left of them, relative (P,), the work done."""

    point: Point
    objective: Tensor
    gap: Tensor
    newton_steps: int
    products: int


@dataclass(frozen=True, slots=True)
class Step:
    """A Newton step: the move, what it gains to first order (P,), what it leaves of that (P,)."""

    move: Point
    gain: Tensor
    left: Tensor
    products: int


def minimise(space: Space, loss: Loss, start: Point, rules: Rules) -> Minimum:
    """Minimise `|w|^2 / 2 + penalty |b|^2 / 2 + loss(X w + b)` for each of the P problems.

    Sources: Keerthi & DeCoste, JMLR 6 (2005), section 3; Lin, Weng & Keerthi, JMLR 9 (2008).
    """
    run = _Run(space, loss, start, rules)
    run.judge(torch.full_like(run.value, torch.inf))
    while len(run.problems) and run.newton < rules.max_newton:
        rules.check()
        run.descend()
        run.judge(run.steepness())
        if len(run.problems):
            step = run.newton_step()
            run.move(step)
            run.judge((step.gain + step.left) / 2)
    return Minimum(run.result, run.objective, run.gap, run.newton, run.products)


class _Run:
    """The problems that are still going: all of its tensors are theirs alone."""

    def __init__(self, space: Space, loss: Loss, start: Point, rules: Rules) -> None:
        self.space, self.loss, self.rules = space, loss, rules
        self.result, self.point = start.copy(), start
        self.problems = torch.arange(start.v.shape[1], device=start.v.device)
        self.local = loss.at(start.total())
        self.value = self._value()
        self.objective, self.gap = self.value.clone(), torch.zeros_like(self.value)
        self.idle = torch.zeros_like(self.problems)
        self.downhill = self.scaled_downhill = start
        self.norm = self.value
        self.scale: Preconditioner | None = None
        self.stale = True
        self.newton = self.products = 0

    def _value(self) -> Tensor:
        v, bias = self.point.v, self.point.bias
        penalty = self.space.dot(v, v, self.point.scores)
        return self.local.value + (penalty + self.rules.penalty * bias.square().sum(1)) / 2

    def descend(self) -> None:
        """Find the direction downhill here: minus the gradient."""
        slope = self.local.slope
        v = -(self.point.v + self.space.adjoint(slope))
        bias = -(self.rules.penalty * self.point.bias + slope.sum(0)) * self.rules.intercept
        self.downhill = Point(v, self.space.scores(v), bias)
        if self.stale:
            self.scale = Preconditioner.of(
                self.space,
                self.loss.diagonal(self.local),
                self.rules.penalty,
                intercept=self.rules.intercept,
            )
        self.scaled_downhill, self.norm = self.scaled(self.downhill)
        self.products += 1

    def scaled(self, residual: Point) -> tuple[Point, Tensor]:
        """What the preconditioner makes of a residual, and the residual's norm (P,) by it."""
        assert self.scale is not None  # noqa: S101 - `descend` sets it
        point = Point(*self.scale(residual.v, residual.scores, residual.bias))
        norm = self.space.dot(residual.v, point.v, point.scores)
        return point, norm + (residual.bias * point.bias).sum(1)

    def steepness(self) -> Tensor:
        """The squared norm of the gradient (P,), by the preconditioner: twice the gap, or more."""
        assert self.scale is not None  # noqa: S101 - `descend` sets it
        withheld = self.scale.withheld(self.downhill.v, self.downhill.scores)
        return self.norm + withheld.reshape(self.downhill.bias.shape).sum(1)

    def newton_step(self) -> Step:
        """By direct solves where they are cheaper."""
        self.newton += 1
        if self.loss.sparse and active.pays(self.space, self.local):
            step = self._direct()
        else:
            step = conjugate_gradients(self)
        self.products += step.products
        return step

    def _direct(self) -> Step:
        coefficients, bias = active.solve(self.space, self.local, self.point, self.rules)
        v = self.space.adjoint(coefficients) - self.point.v
        move = Point(v, self.space.scores(v), bias - self.point.bias)
        # As `move' H move`, which is never negative; along the gradient, which is the same, it
        # would lose its digits where weights and gradient are of very different sizes.
        total = move.total()
        gain = self.space.dot(v, v, move.scores) + self.rules.penalty * move.bias.square().sum(1)
        gain = gain + (self.loss.bend(self.local, total) * total).sum((0, 2))
        return Step(move, gain, torch.zeros_like(gain), 2)

    def move(self, step: Step) -> None:
        """Go along a step to its least point."""
        before = self.value
        self.point, self.local = search(self, step)
        self.value = self._value()
        self.stale = bool((before - self.value > STALE * before).any())
        idle = before - self.value <= 2 * torch.finfo(before.dtype).eps * before
        self.idle = torch.where(idle, self.idle + 1, 0)

    def judge(self, left: Tensor) -> None:
        """Write down where the problems are, and drop those that have at most `left` to gain."""
        gap = left / (self.value + TINY)
        self.gap[self.problems], self.objective[self.problems] = gap, self.value
        self.result.put(self.problems, self.point)
        going = (gap > self.rules.tol) & (self.idle < STALLED)
        if going.all():
            return
        keep = going.nonzero()[:, 0]
        self.problems, self.value, self.idle = (
            self.problems[keep],
            self.value[keep],
            self.idle[keep],
        )
        self.point, self.downhill = self.point.take(keep), self.downhill.take(keep)
        self.scaled_downhill, self.norm = self.scaled_downhill.take(keep), self.norm[keep]
        if self.scale:
            self.scale = self.scale.take(keep, self.point.bias.shape[1])
        self.loss = self.loss.take(keep)
        if len(keep):
            self.local = self.loss.at(self.point.total())


def conjugate_gradients(run: _Run) -> Step:
    """The Newton system, solved until little of what it brings is left.

    Its residual's squared norm by the preconditioner tells, about twice, what that is.
    """
    space, rules, loss = run.space, run.rules, run.loss
    residual, direction, norm = run.downhill, run.scaled_downhill, run.norm
    move = Point(*(torch.zeros_like(part) for part in (residual.v, residual.scores, residual.bias)))
    gain, enough = torch.zeros_like(norm), 0.1 * rules.tol * run.value
    finished = norm <= 0
    for count in range(1, rules.max_cg + 1):
        rules.check()
        total = direction.total()
        bent = loss.bend(run.local, total)
        curved = space.dot(direction.v, direction.v, direction.scores) + (bent * total).sum((0, 2))
        curved = curved + rules.penalty * direction.bias.square().sum(1)
        length = torch.where(finished | (curved <= 0), 0.0, norm / (curved + TINY))
        move = move.moved(direction, length)
        brought = length * norm
        gain = gain + brought
        finished = finished | (count * brought <= FORCING * gain)
        if finished.all():
            return Step(move, gain, brought, count - 1)
        image = direction.v + space.adjoint(bent)
        v = torch.addcmul(residual.v, -length[:, None], image)
        bias = rules.penalty * direction.bias + bent.sum(0)
        bias = (residual.bias - length[:, None] * bias) * rules.intercept
        residual = Point(v, space.scores(v), bias)
        before = norm
        scaled, norm = run.scaled(residual)
        finished = finished | (norm <= enough)
        if finished.all():
            break
        direction = scaled.moved(direction, norm / (before + TINY))
    return Step(move, gain, norm, count)


def search(run: _Run, step: Step) -> tuple[Point, Local]:
    """The least point along a step, nearly, by its slope alone: values have too few digits."""
    space, rules, point, move = run.space, run.rules, run.point, step.move
    base, along = point.total(), move.total()
    first = space.dot(point.v, move.v, move.scores)
    first = first + rules.penalty * (point.bias * move.bias).sum(1)
    second = space.dot(move.v, move.v, move.scores) + rules.penalty * move.bias.square().sum(1)
    low, low_slope = torch.zeros_like(first), -step.gain
    high, high_slope = torch.full_like(first, torch.inf), torch.ones_like(first)
    by = torch.ones_like(first)
    fine = torch.maximum(SEARCH * step.gain, 0.1 * rules.tol * run.value)
    for _ in range(SEARCH_STEPS):
        local = run.loss.at(torch.addcmul(base, by[:, None], along))
        slope = first + by * second + (local.slope * along).sum((0, 2))
        good = slope.abs() <= fine
        if good.all():
            break
        rising = slope > 0
        low, low_slope = torch.where(rising, low, by), torch.where(rising, low_slope, slope)
        high, high_slope = torch.where(rising, by, high), torch.where(rising, slope, high_slope)
        part = (-low_slope / (high_slope - low_slope)).clamp(0.05, 0.95)
        between = torch.where(high.isinf(), 2 * by, low + (high - low) * part)
        by = torch.where(good, by, between)
    return point.moved(move, by), local

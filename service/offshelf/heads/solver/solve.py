"""Training one head: from features and targets to weights that are certified as the best.

The objective, for one-vs-rest losses a column, is LIBLINEAR's and scikit-learn's:

    |w|^2 / 2 + b^2 / (2 scale^2) + C sum_i weight_i loss(target_i, w x_i + b)

with the intercept's term only where it is regularised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from offshelf.heads.solver.newton import Point
from offshelf.heads.solver.products import cross

if TYPE_CHECKING:
    from torch import Tensor

    from offshelf.heads.solver.design import Design, Intercept
    from offshelf.heads.solver.newton import Minimum, Rules
    from offshelf.heads.solver.task import Task

# So many units of the last place may the objective differ when it is computed anew.
LOST: Final = 20
SETTLING: Final = 2
TINY: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Solution:
    """A head: `coef` (K, D), `intercept` (K,), and how good it is, a value a problem.

    Both gaps are what is left of the objective, relative to it. `gap` is an estimate, by what the
    last step brought, and what the method stops by. `gap_bound` is a bound: the duality gap. It may
    be far above. `gradient_norm` is that of the gradient in the weights and the intercept.
    """

    coef: Tensor
    intercept: Tensor
    objective: Tensor
    gap: Tensor
    gap_bound: Tensor
    gradient_norm: Tensor
    newton_steps: int
    products: int
    dtype: torch.dtype

    def mended(self, problems: Tensor, finer: Solution) -> Solution:
        """With those of some problems from elsewhere."""
        columns = torch.arange(len(self.coef)).reshape(len(self.gap), -1)[problems.cpu()].flatten()
        parts = {"coef": columns, "intercept": columns}
        names = ("coef", "intercept", "objective", "gap", "gap_bound", "gradient_norm")
        mended = {name: getattr(self, name).double() for name in names}
        for name, values in mended.items():
            values[parts.get(name, problems)] = getattr(finer, name)
        steps, products = self.newton_steps, self.products
        return replace(
            self,
            **mended,
            newton_steps=steps + finer.newton_steps,
            products=products + finer.products,
            dtype=finer.dtype,
        )

    def converged(self, tol: float) -> bool:
        """Whether every problem is within `tol`."""
        return bool((self.gap <= tol).all())


def solve(
    design: Design,
    task: Task,
    C: Tensor,
    intercept: Intercept,
    rules: Rules,
    start: Point | None = None,
) -> Solution:
    """The head for C (one number, or one a problem), in the precision of the design.

    Where float32 does not reach the tolerance, float64 goes on from there.
    """
    rules = rules_for(rules, intercept)
    space = design.space()
    found = task.minimise(space, C, start, rules)
    checked = certify(design, task, C, found, rules)
    poor = (checked.gap > task.tolerance(rules)).nonzero()[:, 0]
    if design.X.dtype == torch.float32 and len(poor):
        finer = _refine(design, task, C, intercept, rules, found.point, poor)
        checked = checked.mended(poor, finer)
    return checked


def _refine(
    design: Design,
    task: Task,
    C: Tensor,
    intercept: Intercept,
    rules: Rules,
    rough: Point,
    problems: Tensor,
) -> Solution:
    """Some of the problems again, from where float32 ended, in float64."""
    design, task = design.double(), task.take(problems).to(torch.float64)
    space = design.space()
    v = rough.v[:, problems].double()
    start = Point(v, space.scores(v), rough.bias[problems].double())
    C = C.double() if C.numel() == 1 else C[problems].double()
    return solve(design, task, C, intercept, rules, start)


def rules_for(rules: Rules, intercept: Intercept) -> Rules:
    """With the intercept as asked for."""
    return replace(rules, penalty=intercept.penalty, intercept=intercept.kind != "none")


def certify(design: Design, task: Task, C: Tensor, found: Minimum, rules: Rules) -> Solution:
    """The weights, and the objective and its gradient as they are by these weights.

    Nothing that was carried along is used. Where the objective is not what the method took it
    for, digits were lost on the way, and the difference is added to the gap.
    """
    weights = design.weights(found.point.v)
    flat = weights.flatten(1)
    scores = cross(design.X, flat.T).reshape(found.point.scores.shape)
    bias = _settled(task, C, scores, found.point.bias, rules)
    size = weights.square().sum((0, 2)) + rules.penalty * bias.square().sum(1)
    objective = size / 2 + task.value(C, scores + bias)
    slope = task.at(C).at(scores + bias).slope
    gradient = weights + cross(design.X.T, slope.flatten(1).T).reshape(weights.shape)
    pull = (rules.penalty * bias + slope.sum(0)) * rules.intercept
    steep = gradient.square().sum((0, 2))
    lost = (objective - found.objective).clamp(min=0) / objective.clamp(min=TINY)
    gap = found.gap + (lost - LOST * torch.finfo(lost.dtype).eps).clamp(min=0)
    bound = gap if task.loss == "hinge" else steep / (2 * objective.clamp(min=TINY))
    return Solution(
        flat.T.contiguous(),
        _constants(design, task, flat, bias, rules),
        objective,
        gap,
        bound,
        (steep + pull.square().sum(1)).sqrt(),
        found.newton_steps,
        found.products,
        objective.dtype,
    )


def _constants(design: Design, task: Task, flat: Tensor, bias: Tensor, rules: Rules) -> Tensor:
    """The intercepts for features that are not shifted."""
    constants = bias.flatten() - design.shift @ flat
    if task.coupled and rules.intercept and not rules.penalty:
        constants = constants - constants.mean()  # one for all is of no effect on a softmax
    return constants


def _settled(task: Task, C: Tensor, scores: Tensor, bias: Tensor, rules: Rules) -> Tensor:
    """The best intercepts (P, K) for the weights, by Newton's method from good ones.

    With these half of the squared norm of the gradient in the weights is the duality gap: the
    slopes are feasible in the dual. The hinge's come with their own.
    """
    if task.loss == "hinge" or not rules.intercept:
        return bias
    loss = task.at(C)

    def value(bias: Tensor) -> Tensor:
        return loss.at(scores + bias).value + rules.penalty * bias.square().sum(1) / 2

    best = value(bias)
    for _ in range(SETTLING):
        local = loss.at(scores + bias)
        pull = local.slope.sum(0) + rules.penalty * bias
        moved = bias - loss.constant_step(local, pull, rules.penalty)
        reached = value(moved)
        better = reached <= best
        bias = torch.where(better[:, None], moved, bias)
        best = torch.where(better, reached, best)
    return bias

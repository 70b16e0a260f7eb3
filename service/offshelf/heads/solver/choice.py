"""Choosing C: every C of a list on every fold, then the head of the best one on all images.

The folds are parts of one Gram matrix, and every fit starts from the Cs before on the same fold.
(What other folds found for the same C is a bad start, measured: the images that they had not seen
lack their coefficients, and mending that takes more steps than going from C to C.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch

from offshelf.errors import InvalidParameter
from offshelf.heads.solver.newton import Point
from offshelf.heads.solver.solve import Solution, rules_for, solve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from offshelf.heads.solver.design import Design, Intercept
    from offshelf.heads.solver.newton import Minimum, Rules
    from offshelf.heads.solver.spaces import Space
    from offshelf.heads.solver.task import Task

# In the search smooth losses need so many times the tolerance only: a third fewer products, and
# objectives that are still within 5e-6 (measured). The head itself is trained to the tolerance.
LOOSER: Final = 10.0
SMOOTH: Final = ("softmax", "logistic")


class Scorer(Protocol):
    """How good the scores of held-out images are; more is better."""

    def __call__(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> float | NDArray[np.float64]:
        """One number, or one a column (NaN: not to be told), of `rows` (M,), `scores` (M, K)."""
        ...


@dataclass(frozen=True, slots=True)
class Fold:
    """Numbers of the images that train, and of those that are held out."""

    train: Tensor
    held_out: Tensor


@dataclass(frozen=True, slots=True)
class Cell:
    """One fit of the search: C, the fold's number, its scores (1 or a column), how it went."""

    C: float
    fold: int
    scores: NDArray[np.float64]
    objective: float
    gap: float
    newton_steps: int
    products: int


class Search:
    """The cells so far of one search. `progress(done)` is called after every fit."""

    def __init__(
        self,
        design: Design,
        task: Task,
        folds: Sequence[Fold],
        scorer: Scorer,
        intercept: Intercept,
        rules: Rules,
        progress: Callable[[Cell], None] = lambda _: None,
    ) -> None:
        self._design, self._task, self._folds, self._scorer = design, task, folds, scorer
        self._intercept, self._rules, self._progress = intercept, rules, progress
        self._known: set[float] = set()
        self._sums: dict[float, tuple[Tensor, Tensor]] = {}
        self.cells: list[Cell] = []

    def run(self, Cs: Iterable[float]) -> None:
        """Fit those of the Cs that are new, on every fold, in ascending order."""
        new = sorted(set(Cs) - self._known)
        for number, fold in enumerate(self._folds if new else ()):
            space = self._design.space(fold.train)
            task = self._task.rows(fold.train).without_single_sided()
            held_out = self._design.held_out(fold.held_out, fold.train)
            past: list[tuple[float, Point]] = []
            for C in new:
                found = self._fit(C, space, task, _guess(task, past, C))
                past = [*past[-1:], (C, found.point)]
                self._add(C, fold, found.point)
                self._judge(C, number, found, held_out(found.point.v))
        self._known.update(new)

    def _fit(self, C: float, space: Space, task: Task, start: Point | None) -> Minimum:
        rules = rules_for(self._rules, self._intercept)
        if task.loss in SMOOTH:
            rules = replace(rules, tol=LOOSER * rules.tol)
        return task.minimise(space, task.weight.new_tensor([C]), start, rules)

    def _judge(self, C: float, number: int, found: Minimum, scores: Tensor) -> None:
        """Write down how it went, by the scores (M, P, K) of the held-out images."""
        scores = (scores + found.point.bias).flatten(1)
        held_out = self._folds[number].held_out.cpu().numpy()
        score = self._scorer(held_out, scores.cpu().numpy())
        cell = Cell(
            C,
            number,
            np.atleast_1d(np.asarray(score, np.float64)),
            float(found.objective.sum()),
            float(found.gap.max()),
            found.newton_steps,
            found.products,
        )
        self.cells.append(cell)
        self._progress(cell)

    def _add(self, C: float, fold: Fold, point: Point) -> None:
        """Keep what the folds found, added up: of each image the coefficients that it got."""
        on_gram_side = self._design.on_gram_side
        rows = len(self._design.X) if on_gram_side else len(point.v)
        if C not in self._sums:
            v = point.v.new_zeros(rows, *point.v.shape[1:])
            self._sums[C] = v, torch.zeros_like(point.bias)
        v, bias = self._sums[C]
        v[fold.train if on_gram_side else slice(None)] += point.v
        bias += point.bias

    def path(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The Cs in ascending order, and the mean over the folds of the scores, (Cs, columns)."""
        Cs = np.array(sorted(self._known))
        return Cs, np.stack([_mean([c.scores for c in self.cells if c.C == C]) for C in Cs])

    def best(self, *, per_class: bool) -> NDArray[np.float64]:
        """The C of the best score, or a C a column; of equal ones the smallest."""
        Cs, scores = self.path()
        if not per_class:
            scores = _mean(list(scores.T))[:, None]
        elif self._task.coupled or scores.shape[1] != self._task.problems:
            raise InvalidParameter(
                "a C for each class needs a one-vs-rest loss and a score of each class; there are "
                f"{self._task.problems} problems and {scores.shape[1]} scores"
            )
        chosen: NDArray[np.float64] = Cs[np.where(np.isnan(scores), -np.inf, scores).argmax(axis=0)]
        return chosen

    def refit(self, best: NDArray[np.float64]) -> Solution:
        """The head for those Cs on all images, from the mean of what the folds found."""
        C = torch.as_tensor(best, dtype=self._task.weight.dtype, device=self._task.weight.device)
        start = self._mean_of_folds(best)
        return solve(self._design, self._task, C, self._intercept, self._rules, start)

    def _mean_of_folds(self, best: NDArray[np.float64]) -> Point:
        """For a C, or for a C a problem."""
        sums = [self._sums[float(C)] for C in best]
        v, bias = sums[0]
        if len(sums) > 1:
            v = torch.stack([one[:, k] for k, (one, _) in enumerate(sums)], 1)
            bias = torch.stack([one[k] for k, (_, one) in enumerate(sums)])
        counts = v.new_zeros(len(v))
        for fold in self._folds:
            counts[fold.train if self._design.on_gram_side else slice(None)] += 1
        v = v / counts.clamp(min=1)[:, None, None]
        return Point(v, self._design.space().scores(v), bias / len(self._folds))


def _guess(task: Task, past: list[tuple[float, Point]], C: float) -> Point | None:
    """Where the minimum for C may be, by the last two Cs of a path.

    Smooth losses go on as they went, in proportion to log C (measured: a third fewer products);
    of the hinges' minima the last is the better guess.
    """
    if len(past) < 2 or task.loss not in SMOOTH:
        return past[-1][1] if past else None
    (first, a), (second, b) = past
    ahead = min(math.log(C / second) / math.log(second / first), 1.0)
    away = Point(b.v - a.v, b.scores - a.scores, b.bias - a.bias)
    return b.moved(away, torch.full_like(b.bias[:, 0], ahead))


def _mean(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over a list of arrays, without their NaNs; NaN where there is nothing else."""
    stacked = np.stack(parts)
    told = ~np.isnan(stacked)
    counts = told.sum(axis=0)
    total = np.where(told, stacked, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)

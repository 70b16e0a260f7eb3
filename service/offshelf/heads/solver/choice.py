"""Choosing C: every C of a list on every fold, then the head of the best one on all images.

The folds are parts of one Gram matrix, and every fit starts from what is known already: where an
image has had a coefficient for the same C in other folds, from the mean of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
    from offshelf.heads.solver.newton import Rules
    from offshelf.heads.solver.spaces import Space
    from offshelf.heads.solver.task import Task


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


class Known:
    """What the folds so far have found for one C: sums, and how many they are of."""

    def __init__(self, point: Point, images: int, on_gram_side: bool) -> None:
        rows = images if on_gram_side else len(point.v)
        self._gram_side = on_gram_side
        self._sum = point.v.new_zeros((rows, *point.v.shape[1:]))
        self._count = point.v.new_zeros(rows)
        self._bias, self._folds = torch.zeros_like(point.bias), 0

    def add(self, train: Tensor, point: Point) -> None:
        """One fold's minimum."""
        rows = train if self._gram_side else slice(None)
        self._sum[rows] += point.v
        self._count[rows] += 1
        self._bias += point.bias
        self._folds += 1

    def start(self, space: Space, train: Tensor | None) -> Point:
        """A guess for another set of images, or for all."""
        rows = slice(None) if train is None or not self._gram_side else train
        v = self._sum[rows] / self._count[rows].clamp(min=1)[:, None, None]
        return Point(v, space.scores(v), self._bias / self._folds)


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
        progress: Callable[[Cell], None] = lambda cell: None,
    ) -> None:
        self._design, self._task, self._folds, self._scorer = design, task, folds, scorer
        self._intercept, self._rules, self._progress = intercept, rules, progress
        self._known: dict[float, Known] = {}
        self.cells: list[Cell] = []

    def run(self, Cs: Iterable[float]) -> None:
        """Fit those of the Cs that are new, on every fold, in ascending order."""
        new = sorted(set(Cs) - set(self._known))
        for number, fold in enumerate(self._folds if new else ()):
            space = self._design.space(fold.train)
            task = self._task.rows(fold.train).without_single_sided()
            before: Point | None = None
            for C in new:
                start = self._start(C, space, fold.train, before) or task.start(space)
                before = self._fit(C, number, space, task, start)

    def _start(
        self, C: float, space: Space, train: Tensor, before: Point | None
    ) -> Point | None:
        if C in self._known:
            return self._known[C].start(space, train)
        if before is not None or not self._known:
            return before
        nearest = min(self._known, key=lambda known: abs(np.log(known / C)))
        return self._known[nearest].start(space, train)

    def _fit(self, C: float, number: int, space: Space, task: Task, start: Point) -> Point:
        rules, fold = rules_for(self._rules, self._intercept), self._folds[number]
        found = task.minimise(space, start.v.new_tensor([C]), start, rules)
        point = found.point
        if C not in self._known:
            images, side = len(self._design.X), self._design.on_gram_side
            self._known[C] = Known(point, images, side)
        self._known[C].add(fold.train, point)
        scores = self._design.held_out_scores(fold.held_out, fold.train, point.v) + point.bias
        score = self._scorer(fold.held_out.cpu().numpy(), scores.flatten(1).cpu().numpy())
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
        return point

    def path(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The Cs in ascending order, and the mean over the folds of the scores, (Cs, columns)."""
        Cs = np.array(sorted(self._known))
        return Cs, np.stack([_mean([c.scores for c in self.cells if c.C == C]) for C in Cs])

    def best(self, *, per_class: bool) -> NDArray[np.float64]:
        """The C of the best score, or a C a column; of equal ones the smallest."""
        Cs, scores = self.path()
        if not per_class:
            scores = _mean(list(scores.T))[:, None]
        elif scores.shape[1] != self._task.problems:
            raise InvalidParameter(
                "a C for each class needs a one-vs-rest loss and a score of each class; there are "
                f"{self._task.problems} problems and {scores.shape[1]} scores"
            )
        return Cs[np.where(np.isnan(scores), -np.inf, scores).argmax(axis=0)]

    def refit(self, best: NDArray[np.float64]) -> Solution:
        """The head for those Cs on all images."""
        space = self._design.space()
        starts = [self._known[C].start(space, None) for C in best]
        start = starts[0]
        if len(best) > 1:
            start = Point(
                torch.stack([each.v[:, k] for k, each in enumerate(starts)], 1),
                torch.stack([each.scores[:, k] for k, each in enumerate(starts)], 1),
                torch.stack([each.bias[k] for k, each in enumerate(starts)]),
            )
        C = torch.as_tensor(best, dtype=start.v.dtype, device=start.v.device)
        return solve(self._design, self._task, C, self._intercept, self._rules, start, space)


def _mean(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over a list of arrays, without their NaNs; NaN where there is nothing else."""
    stacked = np.stack(parts)
    told = ~np.isnan(stacked)
    counts = told.sum(axis=0)
    total = np.where(told, stacked, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)

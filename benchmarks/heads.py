"""The head solver against scikit-learn: the same problems, in the same run, on the same cores.

Features as a convolutional network's: correlated (a power-law spectrum), after a ReLU, two thirds
zero, of unit length. A grid search is timed by a sample of its cells, each fitted by scikit-learn
with its defaults on one core, and taken to run on all cores at once without loss; ours is the whole
search and the refit, timed as it is. The objective of every sampled cell is printed for both, ours
by our weights. scikit-learn's intercepts: LinearSVC regularises them, LogisticRegression does not.
The ratio is given of wall time and of processor time: the latter hardly depends on what else runs.
`python -m benchmarks.heads VOC SUN397` measures some of the problems, by the start of the name.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from benchmarks.rows import Row
from offshelf.engine.memory import keep_freed_memory
from offshelf.heads.recipe import Recipe, train, train_choosing
from offshelf.heads.solver.folds import stratified

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from offshelf.heads.solver.choice import Cell

FOLDS: Final = 5
CS: Final = tuple(np.logspace(-1, 3, 11).tolist())
SAMPLED: Final = (1, 5, 9)  # of CS, on the first fold
SINGLE_C: Final = CS[5]


@dataclass(frozen=True)
class Problem:
    """Of one of the data sets' sizes."""

    name: str
    images: int
    dimensions: int
    classes: int
    labels: bool = False


PROBLEMS: Final = (
    Problem("Caltech-101", 3060, 4096, 102),
    Problem("VOC 2007", 5011, 4096, 20, labels=True),
    Problem("SUN397 / 4", 4960, 4096, 397),
)


@dataclass(frozen=True)
class Taken:
    """Seconds of wall and of processor time."""

    wall: float
    processor: float

    @classmethod
    def since(cls, before: Taken) -> Taken:
        """What has passed."""
        now = cls.now()
        return cls(now.wall - before.wall, now.processor - before.processor)

    @classmethod
    def now(cls) -> Taken:
        """The clocks."""
        return cls(time.perf_counter(), time.process_time())


def run() -> list[Row]:
    """Every problem, for both losses."""
    return [row for problem in PROBLEMS for row in measure(problem)]


def measure(problem: Problem) -> Iterator[Row]:
    """Both losses."""
    X, target = make(problem)
    smooth = "logistic" if problem.labels else "softmax"
    for loss in (smooth, "squared_hinge"):
        yield from compare(problem, loss, X, target)


def make(problem: Problem) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features and targets; a head gets about four of five right."""
    random = np.random.default_rng(0)
    hidden = 256
    if problem.labels:
        rates = random.permutation(np.linspace(0.03, 0.2, problem.classes))
        target = (random.random((problem.images, problem.classes)) < rates).astype(np.int64)
        latent = target @ random.standard_normal((problem.classes, hidden)) * 0.7
    else:
        target = random.permutation(np.arange(problem.images) % problem.classes)
        latent = random.standard_normal((problem.classes, hidden))[target]
    latent = latent + 2.5 * random.standard_normal(latent.shape)
    scales = (np.arange(hidden) + 1.0) ** -0.5
    latent *= scales / np.linalg.norm(scales)
    X = latent @ random.standard_normal((hidden, problem.dimensions))
    X += 0.5 * random.standard_normal(X.shape)
    X = np.maximum(X - 0.8, 0).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True), target


def compare(problem: Problem, loss: str, X: NDArray[Any], target: NDArray[Any]) -> Iterator[Row]:
    """A single fit, the choice of C and its sampled cells."""
    intercept = "regularised" if loss == "squared_hinge" else "free"
    recipe = Recipe(loss, intercept=intercept)
    what = f"{problem.name}, {'SVM' if loss == 'squared_hinge' else 'logistic regression'}"
    yield single(what, recipe, X, target)
    folds = stratified(target, FOLDS, 0)
    cells: list[Cell] = []
    before = Taken.now()
    train_choosing(recipe, X, target, CS, folds, accuracy(target), progress=cells.append)
    ours = Taken.since(before)
    sampled = []
    for index in SAMPLED:
        rows_of_fold = folds[0][0]
        taken, value = theirs(loss, X[rows_of_fold], target[rows_of_fold], CS[index], threads=1)
        cell = next(cell for cell in cells if cell.fold == 0 and CS[index] == cell.C)
        sampled.append(taken)
        worse = cell.objective / value - 1
        figure = f"{cell.objective:.6g} and {value:.6g} ({worse:+.1e})"
        yield Row(f"{what}, C {CS[index]:.3g}: objective, ours and theirs", worse, figure)
    fits = len(CS) * FOLDS + (FOLDS / (FOLDS - 1))
    wall = float(np.mean([taken.wall for taken in sampled])) * fits / (os.cpu_count() or 1)
    processor = float(np.mean([taken.processor for taken in sampled])) * fits
    yield versus(f"{what}: choice of C", ours, Taken(wall, processor))


def versus(what: str, ours: Taken, theirs: Taken) -> Row:
    """How many times faster ours is."""
    ratio = theirs.wall / ours.wall
    of_processor = theirs.processor / ours.processor
    figure = f"{ours.wall:.1f} s and {theirs.wall:.0f} s: {ratio:.1f}x"
    return Row(what, ratio, f"{figure} (processor time {of_processor:.1f}x)")


def single(what: str, recipe: Recipe, X: NDArray[Any], target: NDArray[Any]) -> Row:
    """One fit on all images, each with all cores, ours before and after theirs."""
    ours = []
    other = Taken(0.0, 0.0)
    for turn in range(3):
        before = Taken.now()
        train(recipe, X, target, SINGLE_C)
        ours.append(Taken.since(before))
        if turn == 0:
            other, _ = theirs(recipe.loss, X, target, SINGLE_C, threads=None)
    median = sorted(ours, key=lambda taken: taken.wall)[1]
    return versus(f"{what}: one fit, C {SINGLE_C:.3g}", median, other)


def theirs(
    loss: str, X: NDArray[Any], target: NDArray[Any], C: float, threads: int | None
) -> tuple[Taken, float]:
    """Time and objective of scikit-learn with its defaults; a fit a label where there are."""
    columns = [target] if target.ndim == 1 else list(target.T)
    wall = processor = value = 0.0
    for y in columns:
        estimator = LinearSVC(C=C) if loss == "squared_hinge" else LogisticRegression(C=C)
        with warnings.catch_warnings(), threadpool_limits(threads):
            warnings.simplefilter("ignore", ConvergenceWarning)
            before = Taken.now()
            estimator.fit(X, y)
            taken = Taken.since(before)
        wall, processor = wall + taken.wall, processor + taken.processor
        value += objective(loss, estimator, X, y, C)
    return Taken(wall, processor), value


def objective(loss: str, head: Any, X: NDArray[Any], y: NDArray[Any], C: float) -> float:
    """Of a fitted head, in float64."""
    scores = X.astype(np.float64) @ head.coef_.T.astype(np.float64) + head.intercept_
    size = float(np.square(head.coef_.astype(np.float64)).sum()) / 2
    if loss == "squared_hinge":
        signs = np.where((y[:, None] == np.arange(scores.shape[1])[None]), 1.0, -1.0)
        signs = 2.0 * y[:, None] - 1 if scores.shape[1] == 1 else signs
        size += float(np.square(head.intercept_).sum()) / 2
        return size + C * float(np.square(np.maximum(1 - signs * scores, 0)).sum())
    if scores.shape[1] == 1:
        return size + C * float(np.logaddexp(0, -(2.0 * y - 1) * scores[:, 0]).sum())
    return size + C * float((logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]).sum())


def accuracy(target: NDArray[Any]) -> Any:
    """For `train_choosing`."""
    from offshelf.heads.estimators import Accuracy

    return Accuracy(target)


if __name__ == "__main__":
    keep_freed_memory()  # as in the process that trains heads
    for problem in PROBLEMS:
        if len(sys.argv) == 1 or problem.name.startswith(tuple(sys.argv[1:])):
            for row in measure(problem):
                print(f"{row.what}: {row.figure}", flush=True)

"""The head solver against scikit-learn: the same problems, in the same run, on the same cores.

Features as a convolutional network's: correlated (a power-law spectrum), after a ReLU, two thirds
zero, of unit length; or real ones from a file. A grid search is timed by a sample of its cells,
each fitted by scikit-learn with its defaults on one core, in between the cells of ours, and taken
to run on all cores at once without loss; ours is the whole search and the refit. The objective of
every sampled cell is compared, ours by what the search says of it. scikit-learn's intercepts:
LinearSVC regularises them, LogisticRegression does not. The ratio is given of wall time and of
processor time: the latter depends less on what else runs.
`python -m benchmarks.heads VOC SUN397` measures some of the problems, by the start of the name;
`--features FILE.npz` (arrays `X`, and `t`: the classes, from 0) one more.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
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
SAMPLED: Final = ((1, 0), (5, 2), (9, 4))  # of CS, and of the folds
TURNS: Final = 3
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

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.wall - other.wall, self.processor - other.processor)

    @classmethod
    def since(cls, before: Taken) -> Taken:
        """What has passed."""
        return cls.now() - before

    @classmethod
    def now(cls) -> Taken:
        """The clocks."""
        return cls(time.perf_counter(), time.process_time())


def run() -> list[Row]:
    """Every problem, for both losses."""
    return [row for problem in PROBLEMS for row in measure(problem)]


def measure(problem: Problem) -> Iterator[Row]:
    """Both losses."""
    for compared in both_losses(problem.name, *make(problem)):
        yield from compared.rows()


def both_losses(what: str, X: NDArray[Any], target: NDArray[Any]) -> Iterator[Compared]:
    """The smooth one, and the squared hinge."""
    for loss in ("softmax" if target.ndim == 1 else "logistic", "squared_hinge"):
        yield compare(what, loss, X, target)


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


@dataclass(frozen=True)
class Compared:
    """One loss on one problem: times of a fit and of a search, and the worst sampled cell."""

    what: str
    fit: tuple[Taken, Taken]
    choice: tuple[Taken, Taken]
    worse: dict[float, float]

    def rows(self) -> Iterator[Row]:
        """One fit, the choice of C, the objectives."""
        yield versus(f"{self.what}: one fit, C {SINGLE_C:.3g}", *self.fit)
        yield versus(f"{self.what}: choice of C", *self.choice)
        figure = ", ".join(f"{worse:+.1e} at C {C:.3g}" for C, worse in self.worse.items())
        yield Row(f"{self.what}: our objective above theirs", max(self.worse.values()), figure)


def compare(what: str, loss: str, X: NDArray[Any], target: NDArray[Any]) -> Compared:
    """A single fit, and the choice of C."""
    intercept = "regularised" if loss == "squared_hinge" else "free"
    recipe = Recipe(loss, intercept=intercept)
    name = f"{what}, {'SVM' if loss == 'squared_hinge' else 'logistic regression'}"
    choice, worse = search(recipe, X, target)
    return Compared(name, single(recipe, X, target), choice, worse)


def search(
    recipe: Recipe, X: NDArray[Any], target: NDArray[Any]
) -> tuple[tuple[Taken, Taken], dict[float, float]]:
    """Times of the choice of C, ours and theirs, and how much worse our sampled cells are."""
    folds = stratified(target, FOLDS, 0)
    sampled: list[Taken] = []
    worse: dict[float, float] = {}
    paused = Taken(0.0, 0.0)

    def sample(cell: Cell) -> None:
        nonlocal paused
        if (CS.index(cell.C), cell.fold) not in SAMPLED:
            return
        before = Taken.now()
        rows = folds[cell.fold][0]
        taken, value = theirs(recipe.loss, X[rows], target[rows], cell.C, threads=1)
        sampled.append(taken)
        worse[cell.C] = cell.objective / value - 1
        paused = paused + Taken.since(before)

    before = Taken.now()
    train_choosing(recipe, X, target, CS, folds, accuracy(target), progress=sample)
    ours = Taken.since(before) - paused
    fits = (len(CS) * FOLDS + FOLDS / (FOLDS - 1)) / len(sampled)
    total = sum(sampled, Taken(0.0, 0.0))
    cores = os.cpu_count() or 1
    return (ours, Taken(total.wall * fits / cores, total.processor * fits)), worse


def versus(what: str, ours: Taken, theirs: Taken) -> Row:
    """How many times faster ours is."""
    ratio, of_processor = theirs.wall / ours.wall, theirs.processor / ours.processor
    wall = f"{ours.wall:.1f} s and {theirs.wall:.0f} s: {ratio:.1f}x"
    processor = f"{ours.processor:.1f} s and {theirs.processor:.0f} s: {of_processor:.1f}x"
    return Row(what, ratio, f"{wall} (processor time {processor})")


def single(recipe: Recipe, X: NDArray[Any], target: NDArray[Any]) -> tuple[Taken, Taken]:
    """One fit on all images, each with all cores: the median of ours, before and after theirs."""
    ours = []
    other = Taken(0.0, 0.0)
    for turn in range(TURNS):
        before = Taken.now()
        train(recipe, X, target, SINGLE_C)
        ours.append(Taken.since(before))
        if turn == TURNS // 2:
            other, _ = theirs(recipe.loss, X, target, SINGLE_C, threads=None)
    middle = np.median([(taken.wall, taken.processor) for taken in ours], axis=0)
    return Taken(*middle.tolist()), other


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


def problems(names: list[str], features: str | None) -> Iterator[tuple[str, Any, Any]]:
    """Name, features and targets of those that are asked for, of all without a word."""
    if features:
        with np.load(features) as file:
            yield Path(features).stem, file["X"].astype(np.float32), file["t"].astype(np.int64)
    for problem in PROBLEMS:
        if problem.name.startswith(tuple(names)) if names else not features:
            yield (problem.name, *make(problem))


def main() -> None:
    """Print the rows as they come, with the machine's load."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("problems", nargs="*", help="the start of a name: Caltech, VOC, SUN397")
    parser.add_argument("--features", help="an .npz with X (N, D) and t (N,)")
    asked = parser.parse_args()
    keep_freed_memory()  # as in the process that trains heads
    for what, X, target in problems(asked.problems, asked.features):
        for compared in both_losses(what, X, target):
            for row in compared.rows():
                print(f"{row.what}: {row.figure}", flush=True)
            print(f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)", flush=True)


if __name__ == "__main__":
    main()

"""The head solver against scikit-learn: the same problems, in the same run, on the same cores.

Features as a convolutional network's: correlated (a power-law spectrum), after a ReLU, two thirds
zero, of unit length. A grid search is timed by a sample of its cells, each fitted by scikit-learn
with its defaults on one core, and taken to run on all cores at once without loss; ours is the whole
search and the refit, timed as it is. The objective of every sampled cell is printed for both, ours
by our weights. scikit-learn's intercepts: LinearSVC regularises them, LogisticRegression does not.
"""

from __future__ import annotations

import os
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
from offshelf.heads.recipe import Recipe, train, train_choosing
from offshelf.heads.solver.folds import stratified

if TYPE_CHECKING:
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


def run() -> list[Row]:
    """Every problem, for both losses."""
    rows = []
    for problem in PROBLEMS:
        X, target = make(problem)
        smooth = "logistic" if problem.labels else "softmax"
        for loss in (smooth, "squared_hinge"):
            rows += compare(problem, loss, X, target)
    return rows


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


def compare(problem: Problem, loss: str, X: NDArray[Any], target: NDArray[Any]) -> list[Row]:
    """The choice of C, its sampled cells, and a single fit."""
    intercept = "regularised" if loss == "squared_hinge" else "free"
    recipe = Recipe(loss, intercept=intercept)
    folds = stratified(target, FOLDS, 0)
    cells: list[Cell] = []
    began = time.perf_counter()
    train_choosing(recipe, X, target, CS, folds, accuracy(target), progress=cells.append)
    ours_s = time.perf_counter() - began
    what = f"{problem.name}, {'SVM' if loss == 'squared_hinge' else 'logistic regression'}"
    rows, cell_s = [], []
    for index in SAMPLED:
        rows_of_fold = folds[0][0]
        seconds, value = theirs(loss, X[rows_of_fold], target[rows_of_fold], CS[index], threads=1)
        cell = next(cell for cell in cells if cell.fold == 0 and CS[index] == cell.C)
        cell_s.append(seconds)
        worse = cell.objective / value - 1
        figure = f"{cell.objective:.6g} and {value:.6g} ({worse:+.1e})"
        rows.append(Row(f"{what}, C {CS[index]:.3g}: objective, ours and theirs", worse, figure))
    fits = len(CS) * FOLDS + (FOLDS / (FOLDS - 1))
    theirs_s = float(np.mean(cell_s)) * fits / (os.cpu_count() or 1)
    figure = f"{ours_s:.1f} s and {theirs_s:.0f} s: {theirs_s / ours_s:.1f}x"
    rows.append(Row(f"{what}: choice of C", theirs_s / ours_s, figure))
    return [*rows, single(what, recipe, X, target)]


def single(what: str, recipe: Recipe, X: NDArray[Any], target: NDArray[Any]) -> Row:
    """One fit on all images, each with all cores, ours before and after theirs."""
    ours = []
    theirs_s = 0.0
    for turn in range(3):
        began = time.perf_counter()
        train(recipe, X, target, SINGLE_C)
        ours.append(time.perf_counter() - began)
        if turn == 0:
            theirs_s, _ = theirs(recipe.loss, X, target, SINGLE_C, threads=None)
    ours_s = float(np.median(ours))
    figure = f"{ours_s:.2f} s and {theirs_s:.2f} s: {theirs_s / ours_s:.1f}x"
    return Row(f"{what}: one fit, C {SINGLE_C:.3g}", theirs_s / ours_s, figure)


def theirs(
    loss: str, X: NDArray[Any], target: NDArray[Any], C: float, threads: int | None
) -> tuple[float, float]:
    """Seconds and objective of scikit-learn with its defaults; a fit a label where there are."""
    columns = [target] if target.ndim == 1 else list(target.T)
    seconds = value = 0.0
    for y in columns:
        estimator = LinearSVC(C=C) if loss == "squared_hinge" else LogisticRegression(C=C)
        began = time.perf_counter()
        with warnings.catch_warnings(), threadpool_limits(threads):
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(X, y)
        seconds += time.perf_counter() - began
        value += objective(loss, estimator, X, y, C)
    return seconds, value


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
    for row in run():
        print(f"{row.what}: {row.figure}", flush=True)

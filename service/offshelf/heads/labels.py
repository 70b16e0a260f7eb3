"""Heads for samples that may have many labels: one problem a label, each against the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from offshelf.errors import InvalidParameter
from offshelf.heads.interface import Fitted
from offshelf.heads.recipe import RecipeSolver, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offshelf.heads.interface import Solver
    from offshelf.heads.recipe import Recipe


def check_labels(labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """InvalidParameter unless some class of (N, K) has positives and negatives to train on."""
    if not learnable_columns(labels).any():
        raise InvalidParameter(
            f"no class has both positive and negative training images: {', '.join(classes)}"
        )


def fit_labels(
    solver: Solver,
    X: NDArray[np.float32],
    labels: NDArray[np.int64],
    C: float | NDArray[np.float64],
    classes: Sequence[str],
) -> Fitted:
    """A row for each class, from X (N, D) and labels (N, K) of -1, 0 and 1.

    Images of label 0 drop out for that class alone. A class without positives or without negatives
    cannot be learned: its score is the same for all images, and a warning names it. There may be a
    C for each class that can. A recipe learns all of them side by side, others one by one.
    """
    learnable = learnable_columns(labels)
    if isinstance(solver, RecipeSolver):
        if not learnable.any():  # of a fold: nothing but constants
            return spread(np.zeros((0, X.shape[1])), np.zeros(0), (), labels, classes)
        head = train(side_by_side(solver.recipe), X, *targets(labels[:, learnable], C))
        return spread(head.coef, head.intercept, head.warnings, labels, classes)
    fits = [_fit(solver, X, column, C) for column in labels.T[learnable]]
    warnings = tuple(dict.fromkeys(warning for fit in fits for warning in fit.warnings))
    coef, intercept = (
        np.array([getattr(fit, name)[0] for fit in fits]) for name in ("coef", "intercept")
    )
    return spread(coef.reshape(len(fits), -1), intercept, warnings, labels, classes)


def side_by_side(recipe: Recipe) -> Recipe:
    """The recipe for labels: each is a problem of its own, so of the softmax's a sigmoid."""
    return replace(recipe, loss="logistic") if recipe.loss == "softmax" else recipe


def targets(
    labels: NDArray[np.int64], C: float | NDArray[np.float64]
) -> tuple[NDArray[np.int64], float | NDArray[np.float64], NDArray[np.float64]]:
    """For `recipe.train`: targets of 0 and 1, C, and weights of 0 where a label does not count."""
    return (labels > 0).astype(np.int64), C, (labels != 0).astype(np.float64)


def learnable_columns(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of labels (N, K) those (K,) that have both positives and negatives."""
    both: NDArray[np.bool_] = (labels == 1).any(axis=0) & (labels == -1).any(axis=0)
    return both


def spread(
    coef: NDArray[np.floating],
    intercept: NDArray[np.floating],
    warnings: tuple[str, ...],
    labels: NDArray[np.int64],
    classes: Sequence[str],
) -> Fitted:
    """Rows of the classes that can be learned in their places; constants for the others."""
    learnable = learnable_columns(labels)
    rows = np.zeros((len(learnable), coef.shape[1]), np.float32)
    rows[learnable] = coef
    scores = np.where((labels == 1).any(axis=0), 1.0, -1.0).astype(np.float32)
    scores[learnable] = intercept
    constant = [name for name, told in zip(classes, learnable, strict=True) if not told]
    if constant:
        told = f"no positive, or no negative, training image of: {', '.join(constant)}"
        warnings = (*warnings, f"{told}; their scores say nothing")
    return Fitted(rows, scores, warnings)


def _fit(
    solver: Solver,
    X: NDArray[np.float32],
    labels: NDArray[np.int64],
    C: float | NDArray[np.float64],
) -> Fitted:
    """One class against the rest: (1, D) and (1,)."""
    counted = labels != 0
    rows = X if counted.all() else X[counted]
    fitted = solver(rows, (labels[counted] > 0).astype(np.int64), C)
    # Half of what the positive class is ahead: its own row, where the other has its negative.
    half = np.float32(0.5)
    coef, intercept = (half * (r[1:] - r[:1]) for r in (fitted.coef, fitted.intercept))
    return Fitted(coef, intercept, fitted.warnings)

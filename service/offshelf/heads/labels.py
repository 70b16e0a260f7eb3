"""Heads for samples that may have many labels: one problem a label, each against the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.errors import InvalidParameter
from offshelf.heads.interface import Fitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offshelf.heads.interface import Solver


def check_labels(labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """InvalidParameter unless some class of (N, K) has positives and negatives to train on."""
    if not any(_is_learnable(column) for column in labels.T):
        raise InvalidParameter(
            f"no class has both positive and negative training images: {', '.join(classes)}"
        )


def fit_labels(
    solver: Solver,
    X: NDArray[np.float32],
    labels: NDArray[np.int64],
    C: float,
    classes: Sequence[str],
) -> Fitted:
    """A row for each class, from X (N, D) and labels (N, K) of -1, 0 and 1.

    Images of label 0 drop out for that class alone. A class without positives or without negatives
    cannot be learned: its score is the same for all images, and a warning names it.
    """
    fits = [_fit(solver, X, column, C) for column in labels.T]
    warnings = tuple(dict.fromkeys(warning for fit in fits for warning in fit.warnings))
    constant = [
        name for name, column in zip(classes, labels.T, strict=True) if not _is_learnable(column)
    ]
    if constant:
        told = f"no positive, or no negative, training image of: {', '.join(constant)}"
        warnings = (*warnings, f"{told}; their scores say nothing")
    return Fitted(
        np.concatenate([fit.coef for fit in fits]),
        np.concatenate([fit.intercept for fit in fits]),
        warnings,
    )


def _fit(solver: Solver, X: NDArray[np.float32], labels: NDArray[np.int64], C: float) -> Fitted:
    """One class against the rest: (1, D) and (1,)."""
    if not _is_learnable(labels):
        sign = 1.0 if (labels == 1).any() else -1.0
        return Fitted(np.zeros((1, X.shape[1]), np.float32), np.full(1, sign, np.float32))
    counted = labels != 0
    rows = X if counted.all() else X[counted]
    fitted = solver(rows, (labels[counted] > 0).astype(np.int64), C)
    # Half of what the positive class is ahead: its own row, where the other has its negative.
    half = np.float32(0.5)
    coef, intercept = (half * (r[1:] - r[:1]) for r in (fitted.coef, fitted.intercept))
    return Fitted(coef, intercept, fitted.warnings)


def _is_learnable(labels: NDArray[np.int64]) -> bool:
    return bool((labels == 1).any() and (labels == -1).any())

"""Logistic regression: the softmax over all classes at once (a sigmoid for two)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.heads.interface import SOLVERS, Fitted, row_per_class
from offshelf.heads.solving import fit_recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ITERATIONS: Final = 5_000


def fit(X: NDArray[np.float32], y: NDArray[np.int64], C: float) -> Fitted:
    """Fit with scikit-learn's LogisticRegression, L2 penalty, L-BFGS; the intercept is free."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, solver="lbfgs", max_iter=MAX_ITERATIONS)
    warnings = fit_recording(model, X.astype(np.float64), y)
    return row_per_class(model.coef_, model.intercept_, warnings)


SOLVERS.add("logreg", fit)

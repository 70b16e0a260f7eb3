"""Linear support vector machines: one against the rest, squared hinge loss (LIBLINEAR)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.heads.interface import SOLVERS, Fitted, row_per_class
from offshelf.heads.solving import fit_recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The dual solver's default of 1000 is short of convergence on unnormalised features.
MAX_ITERATIONS: Final = 20_000


def fit(X: NDArray[np.float32], y: NDArray[np.int64], C: float) -> Fitted:
    """Fit with scikit-learn's LinearSVC; the intercept is regularised with the weights there."""
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=C, dual="auto", max_iter=MAX_ITERATIONS, random_state=0)
    warnings = fit_recording(svm, X.astype(np.float64), y)
    return row_per_class(svm.coef_, svm.intercept_, warnings)


SOLVERS.add("svm", fit)

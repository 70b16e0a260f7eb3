"""Running a scikit-learn solver so that what it warns of is kept and not printed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def fit_recording(
    estimator: Any,  # scikit-learn is not typed
    X: NDArray[np.floating],
    y: NDArray[np.int64],
) -> tuple[str, ...]:
    """Fit in place; the texts of the ConvergenceWarnings, each once. Others pass through."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(X, y)
    mine = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    for other in caught:
        if other not in mine:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return tuple(dict.fromkeys(str(w.message).splitlines()[0] for w in mine))

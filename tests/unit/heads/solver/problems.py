"""Small problems, and the objectives by a plain computation of their own."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def problem(images: int, dimensions: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(images) % classes)
    X = random.normal(size=(images, dimensions))
    X += random.normal(size=(classes, dimensions))[y] + 0.5
    return X, y


def objective(
    loss: str,
    coef: np.ndarray,
    intercept: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
    C: float,
    *,
    penalty: float = 0.0,
    weight: np.ndarray | None = None,
) -> float:
    """Summed over the columns; `y` is classes (N,), or +1 and -1 (N, K)."""
    weight = np.ones(len(X)) if weight is None else weight
    scores = X @ coef.T + intercept
    size = (coef**2).sum() / 2 + penalty * (intercept**2).sum() / 2
    if loss == "softmax":
        return size + C * (weight * (logsumexp(scores, axis=1) - scores[range(len(y)), y])).sum()
    signs = y if y.ndim == 2 else 2.0 * (y[:, None] == np.arange(coef.shape[0])) - 1
    if y.ndim == 1 and len(coef) == 1:
        signs = 2.0 * y[:, None] - 1
    short = 1 - signs * scores
    losses = {
        "squared_hinge": np.maximum(short, 0) ** 2,
        "hinge": np.maximum(short, 0),
        "logistic": np.logaddexp(0, short - 1),
        "squared": short**2,
    }
    return size + C * (weight[:, None] * losses[loss]).sum()

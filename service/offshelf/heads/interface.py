"""What a kind of head is: a function from features and labels to one linear row a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from offshelf.errors import InvalidParameter
from offshelf.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Fitted:
    """A linear model: `coef` (K, D) and `intercept` (K,) in float32, and what the solver said."""

    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]
    warnings: tuple[str, ...] = ()


class Solver(Protocol):
    """Fit one kind of head; imports torch when called."""

    def __call__(
        self, X: NDArray[np.float32], y: NDArray[np.int64], C: float | NDArray[np.float64]
    ) -> Fitted:
        """Fit on X (N, D) and y (N,), whose values are 0..K-1, each at least once; K >= 2."""
        ...


SOLVERS: Registry[Solver] = Registry("head kind", "offshelf.heads")


def check_classes(y: NDArray[np.int64], classes: list[str]) -> None:
    """InvalidParameter unless there are two classes or more, each with a training image."""
    if len(classes) < 2:
        raise InvalidParameter(f"a head needs at least two classes; there is {classes}")
    counts = np.bincount(y, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise InvalidParameter(f"no training image of: {', '.join(empty)}")


def row_per_class(
    coef: NDArray[np.floating], intercept: NDArray[np.floating], warnings: tuple[str, ...]
) -> Fitted:
    """A Fitted from scikit-learn's arrays.

    For two classes scikit-learn has one row, the second class's; the first gets its negative.
    """
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept])
    return Fitted(coef.astype(np.float32), intercept.astype(np.float32), warnings)

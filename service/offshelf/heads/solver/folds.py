"""Stratified folds: every class is spread over all of them as evenly as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stratified(
    target: NDArray[np.int64], folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Row numbers (train, held out) of each fold. `target` is labels (N,) or 0/1 labels (N, L).

    An image of several labels counts as one of its rarest. The images of each class are shuffled
    and dealt out one by one, the next class where the last one stopped.
    """
    count = len(target)
    if not 2 <= folds <= count:
        raise InvalidParameter(f"2 to {count} folds for {count} images, not {folds}")
    label = target if target.ndim == 1 else _rarest(target)
    shuffled = np.random.default_rng(seed).permutation(count)
    dealt = shuffled[np.argsort(label[shuffled], kind="stable")]
    fold = np.empty(count, np.int64)
    fold[dealt] = np.arange(count) % folds
    return [(np.flatnonzero(fold != each), np.flatnonzero(fold == each)) for each in range(folds)]


def _rarest(target: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rarest label of each image, -1 where it has none."""
    present = target > 0
    order = np.where(present, present.sum(axis=0), np.iinfo(np.int64).max)
    return np.where(present.any(axis=1), order.argmin(axis=1), -1)

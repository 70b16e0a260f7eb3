"""Which training images are held out to choose C and to calibrate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from offshelf.errors import InvalidParameter
from offshelf.heads.solver.folds import stratified
from offshelf.schemas.learning import ChooseC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offshelf.schemas.learning import Learning

    # Row numbers: those that train, those that are held out.
    Folds: TypeAlias = list[tuple[NDArray[np.int64], NDArray[np.int64]]]

CALIBRATION_FOLDS: Final = 5


def folds_of(
    learning: Learning,
    labels: NDArray[np.int64],
    val: NDArray[np.int64],
    classes: Sequence[str],
) -> Folds:
    """The folds that a request asks for; none where it chooses and calibrates nothing.

    `labels` are those of the training images, (N,) or (N, K); `val` are the numbers of those among
    them that the split has for validation. InvalidParameter where there are too few images.
    """
    if not isinstance(learning.C, ChooseC):
        if learning.calibrate == "none":
            return []
        count = min(CALIBRATION_FOLDS, _smallest(labels))
        return _stratified(labels, max(2, count), learning.seed, classes)
    if learning.C.folds == "val":
        return _validation(labels, val, classes)
    return _stratified(labels, learning.C.folds, learning.seed, classes)


def name_of(folds: Folds, learning: Learning) -> str:
    """What is held out, for people."""
    by_val = isinstance(learning.C, ChooseC) and learning.C.folds == "val"
    return "validation images" if by_val else f"{len(folds)} folds"


def _stratified(labels: NDArray[np.int64], count: int, seed: int, classes: Sequence[str]) -> Folds:
    if labels.ndim == 2:
        return stratified((labels > 0).astype(np.int64), count, seed)
    sizes = np.bincount(labels, minlength=len(classes))
    if sizes.min() < count:
        name = classes[int(sizes.argmin())]
        raise InvalidParameter(
            f"{count} folds need {count} training images of each class; {name} has {sizes.min()}"
            + (f": ask for {sizes.min()} folds at most" if sizes.min() > 1 else "")
        )
    return stratified(labels, count, seed)


def _validation(labels: NDArray[np.int64], val: NDArray[np.int64], classes: Sequence[str]) -> Folds:
    if not len(val):
        raise InvalidParameter(
            "folds=val needs a split with validation images, and this one has none; ask for a "
            'number of folds, or name them: {"train": [...], "val": [...], "test": [...]}'
        )
    train = np.setdiff1d(np.arange(len(labels)), val)
    if labels.ndim == 1:
        missing = np.bincount(labels[train], minlength=len(classes)) == 0
        if missing.any():
            names = ", ".join(name for name, gone in zip(classes, missing, strict=True) if gone)
            raise InvalidParameter(f"besides the validation images, there is none of: {names}")
    elif not ((labels[train] == 1).any(0) & (labels[train] == -1).any(0)).any():
        raise InvalidParameter(
            "besides the validation images, no class has both positives and negatives"
        )
    return [(train, val)]


def _smallest(labels: NDArray[np.int64]) -> int:
    """Images of the smallest class; of labels, all."""
    return len(labels) if labels.ndim == 2 else int(np.unique(labels, return_counts=True)[1].min())

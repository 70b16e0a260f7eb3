"""How right predictions are: over all images, and per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.schemas import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def score(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]
) -> Metrics | None:
    """Accuracies of class indices (N,), as fractions; None where there are no images.

    `mean_class_accuracy` is the mean over the classes that have images; only those are listed.
    """
    if len(truth) == 0:
        return None
    right = truth == predicted
    per_class = {
        name: float(right[truth == index].mean())
        for index, name in enumerate(classes)
        if np.any(truth == index)
    }
    return Metrics(
        images=len(truth),
        accuracy=float(right.mean()),
        mean_class_accuracy=float(np.mean(list(per_class.values()))),
        per_class=per_class,
    )

"""How right predictions are: over all images, and per class."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from offshelf.core.scoring import accuracy, class_recalls, mean_class_accuracy
from offshelf.schemas import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def score(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]
) -> Metrics | None:
    """Accuracies of class indices (N,), as fractions; None where there are no images.

    `mean_class_accuracy` is the mean over the classes that have images; only those are listed.
    """
    if len(truth) == 0:
        return None
    recalls = class_recalls(truth, predicted, len(classes))
    return Metrics(
        images=len(truth),
        accuracy=accuracy(truth, predicted),
        mean_class_accuracy=mean_class_accuracy(truth, predicted, len(classes)),
        per_class={
            name: float(recall)
            for name, recall in zip(classes, recalls, strict=True)
            if not isnan(recall)
        },
    )

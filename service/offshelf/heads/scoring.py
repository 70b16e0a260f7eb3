"""How right scores are: over all images, and per class."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from offshelf.core.scoring import (
    accuracy,
    ap_table,
    class_recalls,
    mean_average_precision,
    mean_class_accuracy,
)
from offshelf.schemas.heads import ClassPrecision, Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def score(
    truth: NDArray[np.int64], scores: NDArray[np.float32], classes: Sequence[str]
) -> Metrics | None:
    """What scores (N, K) are worth, as fractions; None where there is nothing to be right about.

    `truth` is class indices (N,): accuracies, the mean over the classes that have images; only
    those are listed. Or a -1, 0 or 1 for each class (N, K): average precisions.
    """
    if truth.ndim == 2:
        return _precisions(truth, scores, classes)
    if len(truth) == 0:
        return None
    predicted = scores.argmax(axis=1)
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


def _precisions(
    truth: NDArray[np.int64], scores: NDArray[np.float32], classes: Sequence[str]
) -> Metrics | None:
    if not (truth == 1).any():
        return None
    return Metrics(
        images=len(truth),
        map_11pt=mean_average_precision(truth, scores, "11pt"),
        map_all_point=mean_average_precision(truth, scores, "all"),
        precision={
            row.name: ClassPrecision(
                positives=row.positives,
                negatives=row.negatives,
                left_out=row.left_out,
                ap_11pt=None if isnan(row.ap_11pt) else row.ap_11pt,
                ap_all_point=None if isnan(row.ap_all) else row.ap_all,
            )
            for row in ap_table(truth, scores, classes)
        },
    )

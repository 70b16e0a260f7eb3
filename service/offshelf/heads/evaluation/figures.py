"""The figures of a test, by the rules of `core.scoring`, as reports have them."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Final

from offshelf.core import scoring
from offshelf.schemas.reports import (
    Bin,
    ClassFigures,
    LabelFigures,
    Reliability,
    TopK,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from offshelf.heads.evaluation.record import Evaluation

TOP_K: Final = (1, 2, 3, 5)
BINS: Final = 15


def top_k(evaluation: Evaluation) -> list[TopK]:
    """Top-k accuracies, as far as there are more classes than k."""
    truth, scores = evaluation.truth, evaluation.scores
    return [
        TopK(k=k, accuracy=scoring.top_k_accuracy(truth, scores, k))
        for k in TOP_K
        if k < scores.shape[1] or k == 1
    ]


def class_figures(
    evaluation: Evaluation, confusion: NDArray[np.int64], classes: Sequence[str]
) -> list[ClassFigures]:
    """A row for each class of a test with one label an image."""
    precisions = scoring.class_precisions(evaluation.truth, evaluation.scores)
    return [
        ClassFigures(
            name=row.name,
            images=row.images,
            right=row.right,
            precision=known(row.precision),
            recall=known(row.recall),
            f1=known(row.f1),
            ap=known(float(ap)),
            confused_with=row.confused_with,
        )
        for row, ap in zip(scoring.class_table(confusion, classes), precisions, strict=True)
    ]


def label_figures(evaluation: Evaluation, classes: Sequence[str]) -> list[LabelFigures]:
    """A row for each class of a test with many labels an image."""
    return [
        LabelFigures(
            name=row.name,
            positives=row.positives,
            negatives=row.negatives,
            left_out=row.left_out,
            ap_11pt=known(row.ap_11pt),
            ap_all_point=known(row.ap_all),
        )
        for row in scoring.ap_table(evaluation.truth, evaluation.scores, classes)
    ]


def reliability(evaluation: Evaluation, probabilities: NDArray[np.floating]) -> Reliability:
    """The reliability diagram of the probabilities (T, K) of the test samples."""
    rule = scoring.label_reliability if evaluation.multi_label else scoring.reliability
    found = rule(evaluation.truth, probabilities, BINS)
    bins = [
        Bin(
            low=float(found.edges[b]),
            high=float(found.edges[b + 1]),
            count=int(found.counts[b]),
            confidence=known(float(found.confidence[b])),
            accuracy=known(float(found.accuracy[b])),
        )
        for b in range(BINS)
    ]
    return Reliability(bins=bins, ece=found.ece)


def known(value: float) -> float | None:
    """None for NaN, which JSON has not."""
    return None if isnan(value) else value

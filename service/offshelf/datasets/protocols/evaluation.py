"""The figures that a protocol reports of scores, and the paper's rows to put beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.core import scoring
from offshelf.datasets.protocols.interface import Published
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from offshelf.datasets.protocols.interface import Card, Description, Metric, Split

OURS: Final = "this run"


def evaluate(description: Description, split: Split, scores: ArrayLike) -> dict[Metric, float]:
    """Each metric of the protocol, as fractions, of the scores (T, K) of the split's test items.

    Row t belongs to `split.test[t]`; an item that could not be scored has -inf throughout.
    InvalidParameter for another shape, and for a test without any label that counts.
    """
    given = np.asarray(scores, np.float64)
    shape = (len(split.test), len(description.classes))
    if given.shape != shape:
        raise InvalidParameter(f"scores of shape {given.shape}; the test of this split is {shape}")
    if np.isnan(given).any():
        raise InvalidParameter("scores hold NaN; give -inf to an item that was not scored")
    truth = description.targets()[list(split.test)]
    if not len(truth) or (description.multi_label and not (truth == 1).any()):
        raise InvalidParameter(
            f"{description.protocol}: the test of split {split.name} has no label; "
            "it cannot be scored here"
        )
    return {metric: _figure(metric, truth, given) for metric in description.metrics}


def _figure(metric: Metric, truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    if metric == "map_11pt":
        return scoring.mean_average_precision(truth, scores, "11pt")
    if metric == "map_all_point":
        return scoring.mean_average_precision(truth, scores, "all")
    # A row of -inf alone is of no class: it is wrong whatever its class, and class 0 gains nothing.
    scored = (scores > -np.inf).any(axis=1)
    predicted = np.where(scored, scores.argmax(axis=1), scores.shape[1])
    classes = scores.shape[1] + 1
    if metric == "accuracy":
        return scoring.accuracy(truth, predicted)
    return scoring.mean_class_accuracy(truth, predicted, classes)


def beside(
    card: Card, method: str, metric: Metric, value: float, deviation: float | None = None
) -> tuple[Published, ...]:
    """The paper's rows of this metric and ours, best first; `value` and `deviation` in per cent.

    Rows of another metric are not comparable, so they are not there.
    """
    ours = Published(method=method, value=value, deviation=deviation, metric=metric, source=OURS)
    rows = [row for row in card.published if row.metric == metric]
    return tuple(sorted([*rows, ours], key=lambda row: -row.value))

"""What a choice of C is made by: the metric of held-out images; and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offshelf.core.scoring import accuracy, average_precisions, mean_class_accuracy
from offshelf.errors import InvalidParameter
from offshelf.schemas.learning import OF_LABELS, Choice, PathPoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offshelf.core.scoring import ApRule
    from offshelf.heads.recipe import Path
    from offshelf.schemas.learning import ChooseC, Metric


@dataclass(frozen=True, slots=True)
class ByMetric:
    """A `solver.choice.Scorer`. `truth` is class numbers (N,), or -1, 0 and 1 a label (N, K)."""

    metric: Metric
    truth: NDArray[np.int64]
    classes: int

    def __call__(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> float | NDArray[np.float64]:
        """Accuracies are of the best class; of average precisions there is one a column."""
        truth = self.truth[rows]
        if self.metric in OF_LABELS:
            rule: ApRule = "11pt" if self.metric == "map_11pt" else "all"
            return average_precisions(self._signs(truth, scores.shape[1]), scores, rule)
        # Of two classes there is one column, the second's.
        best = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(np.int64)
        if self.metric == "accuracy":
            return accuracy(truth, best)
        return mean_class_accuracy(truth, best, self.classes)

    def _signs(self, truth: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
        if truth.ndim == 2:
            return truth
        first = self.classes - columns
        return np.where(truth[:, None] == np.arange(first, self.classes), 1, -1)


def metric_of(wanted: ChooseC, first_figure: Metric | None, *, multi_label: bool) -> Metric:
    """By which the search goes: what was asked for, else the protocol's first figure.

    A C for each class needs a score of each, which average precisions are.
    """
    metric = wanted.metric or first_figure
    if metric is None:
        metric = "map_all_point" if multi_label else "accuracy"
    if not wanted.per_class or metric in OF_LABELS:
        return metric
    if wanted.metric is None:
        return "map_all_point"
    raise InvalidParameter(
        f"per_class needs a score of each class, which {metric} is not: {' or '.join(OF_LABELS)}"
    )


def choice_of(
    wanted: ChooseC,
    metric: Metric,
    held_out: str,
    path: Path,
    C: NDArray[np.float64],
    classes: Sequence[str],
) -> Choice:
    """The record of a search. `classes` are those of the columns, or both of a single column's."""
    points = [_point(value, path) for value in path.Cs.tolist()]
    if not wanted.per_class:
        score = next(point.mean for point in points if C[0] == point.C)
        return Choice(metric=metric, held_out=held_out, path=points, score=score)
    columns = len(path.scores[0])
    best = [path.scores[np.flatnonzero(path.Cs == C[k])[0], k] for k in range(columns)]
    place = {name: min(k, columns - 1) for k, name in enumerate(classes)}
    return Choice(
        metric=metric,
        held_out=held_out,
        path=points,
        score=_told(_mean(np.array(best))),
        by_class={name: float(C[k]) for name, k in place.items()},
        scores_by_class={name: _told(best[k]) for name, k in place.items()},
    )


def _point(C: float, path: Path) -> PathPoint:
    folds = [_mean(cell.scores) for cell in path.cells if cell.C == C]
    told = np.array([score for score in folds if not np.isnan(score)])
    deviation = float(told.std(ddof=1)) if len(told) > 1 else None
    mean = _mean(path.scores[np.flatnonzero(path.Cs == C)[0]])
    return PathPoint(
        C=C, mean=_told(mean), deviation=deviation, folds=[_told(score) for score in folds]
    )


def _mean(values: NDArray[np.float64]) -> float:
    """Of what is not NaN; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _told(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

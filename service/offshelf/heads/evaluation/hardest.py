"""Which test samples a head gets most wrong: they show label errors, and what it cannot see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.schemas.reports import LabelExtremes, Miss, Ranked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from offshelf.heads.evaluation.record import Evaluation

MISSES: Final = 24
# Of each class where images may have many labels.
EXTREMES: Final = 5


def misses(
    evaluation: Evaluation,
    classes: Sequence[str],
    path_of: Callable[[int], str | None],
    probabilities: NDArray[np.floating] | None = None,
    most: int = MISSES,
) -> list[Miss]:
    """The samples whose wrong class is furthest ahead of the true one, the worst first.

    Equal ones stand in the order of the samples. All samples have scores.
    """
    scores, truth = evaluation.scores.astype(np.float64), evaluation.truth
    rows = np.arange(len(truth))
    predicted = scores.argmax(axis=1) if len(truth) else truth
    margin = scores[rows, predicted] - scores[rows, truth]
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-margin[wrong], kind="stable")][:most]
    return [
        Miss(
            number=int(evaluation.numbers[row]),
            path=path_of(int(evaluation.numbers[row])),
            truth=classes[truth[row]],
            predicted=classes[predicted[row]],
            score=float(scores[row, predicted[row]]),
            margin=float(margin[row]),
            probability=None
            if probabilities is None
            else float(probabilities[row, predicted[row]]),
        )
        for row in worst
    ]


def extremes(
    evaluation: Evaluation,
    classes: Sequence[str],
    path_of: Callable[[int], str | None],
    most: int = EXTREMES,
) -> list[LabelExtremes]:
    """Of each class the positives of the lowest rank, and the negatives of the highest."""
    columns = zip(classes, evaluation.truth.T, evaluation.scores.T, strict=True)
    return [
        _extremes(name, labels, scores, _Naming(evaluation.numbers, path_of), most)
        for name, labels, scores in columns
    ]


def _extremes(
    name: str,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    naming: _Naming,
    most: int,
) -> LabelExtremes:
    """Ranks are as average precision has them: equal scores keep the order of the samples."""
    counted = np.flatnonzero(labels != 0)
    best_first = counted[np.argsort(-scores[counted], kind="stable")]
    positive = labels[best_first] == 1
    last, first = np.flatnonzero(positive)[::-1][:most], np.flatnonzero(~positive)[:most]
    return LabelExtremes(
        name=name,
        worst_positives=naming.ranked(best_first, last, scores),
        best_negatives=naming.ranked(best_first, first, scores),
    )


@dataclass(frozen=True, slots=True)
class _Naming:
    """Numbers and paths of the samples."""

    numbers: NDArray[np.int64]
    path_of: Callable[[int], str | None]

    def ranked(
        self, order: NDArray[np.int64], places: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> list[Ranked]:
        """The samples at some places of an order."""
        numbers = self.numbers[order[places]].tolist()
        return [
            Ranked(number=number, path=self.path_of(number), score=float(score), rank=int(at) + 1)
            for number, score, at in zip(numbers, scores[order[places]], places, strict=True)
        ]

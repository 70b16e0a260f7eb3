"""The report on a head: its card, and what follows from the scores of its test samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.core import scoring
from offshelf.core.intervals import wilson
from offshelf.heads.calibration import probabilities
from offshelf.heads.evaluation import figures, hardest
from offshelf.schemas.reports import ClassTest, HeadReport, LabelTest, Reliability

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from offshelf.heads.evaluation.record import Evaluation
    from offshelf.schemas.datasets import Dataset
    from offshelf.schemas.heads import Head

NO_TEST = "the head was trained without a test side, so only its training figures are known"
NO_LABELS = "the labels of the test were not published, so there is nothing to compare scores with"
NO_PROBABILITIES = (
    "the head has no probabilities: train it with calibrate=temperature (or platt, for labels)"
)
NO_SCORES = "no test sample had features"


def build(head: Head, evaluation: Evaluation | None, dataset: Dataset | None) -> HeadReport:
    """The report on a head. `evaluation` is None for a head without a test side.

    `dataset` is what the head was trained on, None where it is gone: samples have no paths then.
    """
    named = HeadReport(
        head=head,
        dataset=None if dataset is None else dataset.name,
        training=head.train,
        test_missing=NO_TEST,
    )
    if evaluation is None:
        return named
    scored = evaluation.scored()
    known = named.model_copy(
        update={
            "tested": len(evaluation.numbers),
            "unscored": len(evaluation.numbers) - len(scored.numbers),
            "low_shot": evaluation.low_shot,
        }
    )
    if not scored.has_truth:
        why = NO_LABELS if len(scored.numbers) else NO_SCORES
        return known.model_copy(update={"test_missing": why})
    said = probabilities_of(head, scored.scores)
    return known.model_copy(
        update={
            "test": _test(scored, head.classes, _paths(dataset), said),
            "test_missing": "",
            "reliability": _reliability(head, scored, said),
            "reliability_missing": NO_PROBABILITIES if said is None else "",
        }
    )


def probabilities_of(head: Head, scores: NDArray[np.float32]) -> NDArray[np.floating] | None:
    """The head's probabilities (T, K) for scores (T, K); None where it has none."""
    return probabilities(head.kind, scores, head.calibration, multi_label=head.multi_label)


def _test(
    evaluation: Evaluation,
    classes: list[str],
    path_of: Callable[[int], str | None],
    said: NDArray[np.floating] | None,
) -> ClassTest | LabelTest:
    truth, scores = evaluation.truth, evaluation.scores
    if evaluation.multi_label:
        return LabelTest(
            images=len(truth),
            map_11pt=scoring.mean_average_precision(truth, scores, "11pt"),
            map_all_point=scoring.mean_average_precision(truth, scores, "all"),
            labels=figures.label_figures(evaluation, classes),
            extremes=hardest.extremes(evaluation, classes, path_of),
        )
    predicted = scores.argmax(axis=1)
    confusion = scoring.confusion_matrix(truth, predicted, len(classes))
    return ClassTest(
        images=len(truth),
        accuracy=scoring.accuracy(truth, predicted),
        interval=wilson(int(np.diag(confusion).sum()), len(truth)),
        mean_class_accuracy=scoring.mean_class_accuracy(truth, predicted, len(classes)),
        top_k=figures.top_k(evaluation),
        classes=figures.class_figures(evaluation, confusion, classes),
        confusion=confusion.tolist(),
        hardest=hardest.misses(evaluation, classes, path_of, said),
    )


def _reliability(
    head: Head, evaluation: Evaluation, said: NDArray[np.floating] | None
) -> Reliability | None:
    if said is None:
        return None
    by = "own" if head.calibration is None else head.calibration.method
    return figures.reliability(evaluation, said).model_copy(update={"by": by})


def _paths(dataset: Dataset | None) -> Callable[[int], str | None]:
    if dataset is None:
        return lambda _: None
    items = dataset.items
    return lambda number: items[number].path if number < len(items) else None

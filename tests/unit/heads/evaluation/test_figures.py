"""The figures of reports against scikit-learn, on random tests with and without ties."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from offshelf.core import scoring
from offshelf.heads.evaluation import figures
from offshelf.heads.evaluation.record import Evaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ["ant", "bee", "cow", "dog", "eel", "fox"]
seeds = st.integers(0, 10_000)


def single(seed: int, images: int = 60, classes: int = 4) -> Evaluation:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, images)
    scores = rng.normal(size=(images, classes)) + 1.5 * np.eye(classes)[truth]
    return Evaluation("d", scores.astype(np.float32), truth, np.arange(images))


def many(seed: int, images: int = 50, classes: int = 5) -> Evaluation:
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1, 0, 1], p=[0.6, 0.1, 0.3], size=(images, classes))
    scores = rng.normal(size=(images, classes)) + truth
    return Evaluation("d", scores.astype(np.float32), truth, np.arange(images))


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    exp = np.exp(scores.astype(np.float64))
    return exp / exp.sum(axis=1, keepdims=True)


@given(seeds, st.integers(2, 6))
def test_top_k_is_scikit_learn_s(seed: int, classes: int) -> None:
    made = single(seed, classes=classes)
    found = figures.top_k(made)
    assert [row.k for row in found] == [k for k in (1, 2, 3, 5) if k < classes]
    for row in found:
        if classes == 2:
            expected = float(np.mean(made.scores.argmax(1) == made.truth))
        else:
            expected = skm.top_k_accuracy_score(
                made.truth, made.scores, k=row.k, labels=np.arange(classes)
            )
        assert row.accuracy == pytest.approx(expected)


@given(seeds)
def test_the_class_table_is_scikit_learn_s(seed: int) -> None:
    made = single(seed, images=25)
    predicted = made.scores.argmax(axis=1)
    confusion = scoring.confusion_matrix(made.truth, predicted, 4)
    rows = figures.class_figures(made, confusion, NAMES[:4])
    precision, recall, f1, support = skm.precision_recall_fscore_support(
        made.truth, predicted, labels=np.arange(4), zero_division=np.nan
    )
    for k, row in enumerate(rows):
        assert (row.name, row.images) == (NAMES[k], support[k])
        told = [np.nan if v is None else v for v in (row.precision, row.recall, row.f1)]
        np.testing.assert_allclose(told, [precision[k], recall[k], f1[k]], equal_nan=True)
        assert row.right == confusion[k, k]


@given(seeds)
def test_a_class_s_ap_is_the_area_under_the_monotonic_precision(seed: int) -> None:
    """scikit-learn's own AP is not VOC's: it has no maximum from the right. Its curve has all."""
    made = single(seed)
    confusion = scoring.confusion_matrix(made.truth, made.scores.argmax(1), 4)
    for k, row in enumerate(figures.class_figures(made, confusion, NAMES[:4])):
        if row.images == 0:
            assert row.ap is None
            continue
        precision, recall, _ = skm.precision_recall_curve(made.truth == k, made.scores[:, k])
        area = sum(
            (recall[i] - recall[i + 1]) * precision[: i + 1].max() for i in range(len(recall) - 1)
        )
        assert row.ap == pytest.approx(area)


@given(seeds)
def test_a_class_without_images_or_predictions_has_no_figures(seed: int) -> None:
    made = single(seed, classes=3)
    apart = Evaluation(
        "d", np.pad(made.scores, ((0, 0), (0, 1)), constant_values=-99), made.truth, made.numbers
    )
    confusion = scoring.confusion_matrix(apart.truth, apart.scores.argmax(1), 4)
    row = figures.class_figures(apart, confusion, NAMES[:4])[3]
    assert (row.images, row.precision, row.recall, row.f1, row.ap, row.confused_with) == (
        0, None, None, None, None, None,
    )  # fmt: skip


@given(seeds)
def test_label_figures_count_what_is_left_out(seed: int) -> None:
    made = many(seed)
    for k, row in enumerate(figures.label_figures(made, NAMES[:5])):
        column = made.truth[:, k]
        assert (row.positives, row.negatives, row.left_out) == tuple(
            int((column == sign).sum()) for sign in (1, -1, 0)
        )
        for told, rule in ((row.ap_11pt, "11pt"), (row.ap_all_point, "all")):
            expected = scoring.average_precision(column, made.scores[:, k], rule)  # type: ignore[arg-type]
            assert told == (None if np.isnan(expected) else expected)


@given(seeds)
def test_reliability_of_classes_is_scikit_learn_s_calibration_curve(seed: int) -> None:
    made = single(seed, images=200)
    table = softmax(made.scores)
    sure, right = table.max(axis=1), table.argmax(axis=1) == made.truth
    _check_bins(figures.reliability(made, table), sure, right)


@given(seeds)
def test_reliability_of_labels_is_over_every_pair_that_counts(seed: int) -> None:
    made = many(seed)
    table = 1 / (1 + np.exp(-made.scores.astype(np.float64)))
    counts = made.truth != 0
    _check_bins(figures.reliability(made, table), table[counts], made.truth[counts] == 1)


def _check_bins(found, sure, right) -> None:  # type: ignore[no-untyped-def]
    share, confidence = calibration_curve(right, sure, n_bins=15, strategy="uniform")
    filled = [row for row in found.bins if row.count]
    np.testing.assert_allclose([row.accuracy for row in filled], share)
    np.testing.assert_allclose([row.confidence for row in filled], confidence)
    assert sum(row.count for row in found.bins) == len(sure)
    assert all(
        row.accuracy is None and row.confidence is None for row in found.bins if not row.count
    )
    weights = np.array([row.count for row in filled]) / len(sure)
    assert found.ece == pytest.approx(float(np.sum(weights * np.abs(share - confidence))))

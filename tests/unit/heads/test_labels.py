"""Heads of many labels: one problem a class, without the images that do not count for it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from offshelf.errors import InvalidParameter
from offshelf.heads.interface import SOLVERS, Fitted
from offshelf.heads.labels import check_labels, fit_labels

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(60, 5)).astype(np.float32)
LABELS = np.where(X[:, :3] > 0, 1, -1).astype(np.int64)
NAMES = ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["svm", "logreg"])
def test_each_class_is_a_problem_of_its_own_without_what_does_not_count(kind: str) -> None:
    labels = LABELS.copy()
    labels[:20, 1] = 0
    fitted = fit_labels(SOLVERS.get(kind), X, labels, 1.0, NAMES)
    assert (fitted.coef.shape, fitted.intercept.shape) == ((3, 5), (3,))
    for k, rows in enumerate((slice(None), slice(20, None), slice(None))):
        alone = SOLVERS.get(kind)(X[rows], (labels[rows, k] > 0).astype(np.int64), 1.0)
        np.testing.assert_allclose(fitted.coef[k], alone.coef[1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fitted.intercept[k], alone.intercept[1], rtol=1e-5, atol=1e-6)


def test_a_positive_image_has_the_higher_score() -> None:
    fitted = fit_labels(SOLVERS.get("svm"), X, LABELS, 1.0, NAMES)
    for k in range(3):
        independent = LinearSVC(C=1.0, dual=True, max_iter=50_000, tol=1e-6).fit(X, LABELS[:, k])
        scores = X @ fitted.coef[k] + fitted.intercept[k]
        np.testing.assert_allclose(scores, independent.decision_function(X), atol=2e-2)
        assert scores[LABELS[:, k] == 1].mean() > scores[LABELS[:, k] == -1].mean()


def test_of_a_kind_whose_two_rows_are_not_each_other_s_negative_the_difference_counts() -> None:
    def two_rows(X: np.ndarray, y: np.ndarray, C: float) -> Fitted:
        return Fitted(np.array([[2, 0], [5, 4]], np.float32), np.array([1, 2], np.float32))

    fitted = fit_labels(two_rows, X[:, :2], LABELS[:, :1], 1.0, NAMES[:1])
    assert (fitted.coef.tolist(), fitted.intercept.tolist()) == ([[1.5, 2.0]], [0.5])


def test_images_that_count_for_no_class_change_nothing() -> None:
    labels = LABELS.copy()
    labels[::3] = 0
    moved = X.copy()
    moved[::3] += 100
    one, other = (fit_labels(SOLVERS.get("svm"), rows, labels, 1.0, NAMES) for rows in (X, moved))
    np.testing.assert_array_equal(one.coef, other.coef)


def test_a_class_that_cannot_be_learned_scores_all_alike_and_is_told() -> None:
    labels = LABELS.copy()
    labels[:, 0], labels[:, 2] = -1, np.where(labels[:, 2] == 1, 1, 0)
    fitted = fit_labels(SOLVERS.get("svm"), X, labels, 1.0, NAMES)
    assert not fitted.coef[[0, 2]].any()
    assert fitted.intercept[[0, 2]].tolist() == [-1, 1]
    assert fitted.coef[1].any()
    assert "no positive, or no negative, training image of: a, c;" in fitted.warnings[-1]


def test_labels_of_which_none_can_be_learned_are_refused() -> None:
    check_labels(LABELS, NAMES)
    with pytest.raises(InvalidParameter, match="no class has both positive and negative"):
        check_labels(np.abs(LABELS), NAMES)
    with pytest.raises(InvalidParameter, match="no class has both"):
        check_labels(LABELS[:0], NAMES)

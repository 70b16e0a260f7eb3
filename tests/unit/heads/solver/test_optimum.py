"""The solver's minima against scikit-learn's, run to convergence, and against the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from offshelf.heads.recipe import Recipe, Trained, train
from tests.unit.heads.solver.problems import objective, problem

LOSSES = ("squared_hinge", "hinge", "logistic", "softmax", "squared")
# The hinge has a corner at its minimum, and a tolerance of its own.
GAPS = {"hinge": 1e-4}

sizes = st.tuples(st.integers(12, 60), st.integers(2, 40), st.integers(3, 4))
seeds = st.integers(0, 10_000)
Cs = st.floats(-3, 1.5).map(lambda power: 10.0**power)
quick = settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def theirs(loss: str, X: np.ndarray, y: np.ndarray, C: float) -> tuple[float, float]:
    """Their least objective, and the intercept's penalty in it."""
    if loss in ("squared_hinge", "hinge"):
        svm = LinearSVC(C=C, loss=loss, dual=True, tol=1e-9, max_iter=10_000_000, random_state=0)
        svm.fit(X, y)
        return objective(loss, svm.coef_, svm.intercept_, X, y, C, penalty=1.0), 1.0
    if loss == "softmax":
        model = LogisticRegression(C=C, tol=1e-9, max_iter=100_000).fit(X, y)
        return objective(loss, model.coef_, model.intercept_, X, y, C), 0.0
    value = 0.0
    for each in np.unique(y):
        if loss == "squared":
            signs = 2.0 * (y == each) - 1
            model = Ridge(alpha=1 / (2 * C)).fit(X, signs)
            coef, intercept = model.coef_[None], np.atleast_1d(model.intercept_)
        else:
            model = LogisticRegression(C=C, tol=1e-9, max_iter=100_000).fit(X, y == each)
            coef, intercept = model.coef_, model.intercept_
        value += objective(loss, coef, intercept, X, (y == each).astype(int), C)
    return value, 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES)
@quick
@given(size=sizes, seed=seeds, C=Cs)
def test_never_worse_than_scikit_learn_run_to_convergence(
    loss: Any, dtype: Any, size: tuple[int, int, int], seed: int, C: float
) -> None:
    X, y = problem(*size, seed)
    X = X.astype(dtype)
    best, penalty = theirs(loss, X.astype(np.float64), y, C)
    head = train(Recipe(loss, intercept="regularised" if penalty else "free"), X, y, C)
    ours = objective(loss, head.coef, head.intercept, X.astype(np.float64), y, C, penalty=penalty)
    assert ours <= best * (1 + GAPS.get(loss, 1e-6)) + 1e-12
    np.testing.assert_allclose(head.objective.sum(), ours, rtol=1e-6)
    assert head.warnings == ()


def gradient(loss: str, head: Trained, X: np.ndarray, y: np.ndarray, C: float) -> np.ndarray:
    """By central differences of the plain objective."""
    packed = np.concatenate([head.coef.ravel(), head.intercept])
    shape, step = head.coef.shape, 1e-5

    def value(point: np.ndarray) -> float:
        coef, intercept = point[: head.coef.size].reshape(shape), point[head.coef.size :]
        return objective(loss, coef, intercept, X, y, C)

    units = np.eye(len(packed)) * step
    return np.array([(value(packed + u) - value(packed - u)) / (2 * step) for u in units])


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic", "softmax", "squared"])
@quick
@given(size=sizes, seed=seeds, C=Cs)
def test_the_gradient_is_nought_at_the_minimum(
    loss: Any, size: tuple[int, int, int], seed: int, C: float
) -> None:
    X, y = problem(*size, seed)
    head = train(Recipe(loss), X, y, C)
    scale = max(1.0, C * np.abs(X).sum())
    assert np.abs(gradient(loss, head, X, y, C)).max() < 1e-5 * scale
    assert head.gradient_norm.max() < 1e-6 * scale


@pytest.mark.parametrize("intercept", ["free", "regularised", "none"])
@pytest.mark.parametrize("loss", LOSSES)
@quick
@given(size=sizes, seed=seeds, C=Cs, tol=st.sampled_from([1e-1, 1e-2, 1e-4]))
def test_the_bound_is_not_below_what_is_left(
    loss: Any, intercept: Any, size: tuple[int, int, int], seed: int, C: float, tol: float
) -> None:
    """Of heads that are trained roughly, against ones that are trained well."""
    X, y = problem(*size, seed)
    exact = train(Recipe(loss, intercept=intercept), X, y, C)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offshelf.heads.recipe.SMALL", 0)
        rough = train(Recipe(loss, intercept=intercept, tol=tol), X, y, C)
    left = (rough.objective - exact.objective) / rough.objective
    assert (left <= rough.gap_bound + 1e-9).all()
    assert (exact.gap_bound <= (1e-4 if loss == "hinge" else 1e-8)).all()


@pytest.mark.parametrize("loss", LOSSES)
@quick
@given(seed=seeds, C=Cs)
def test_both_sides_give_the_same_head(loss: Any, seed: int, C: float) -> None:
    """Zero features make a wide problem of a tall one: it is solved on the Gram side then."""
    X, y = problem(40, 6, 3, seed)
    wide = np.concatenate([X, np.zeros((40, 60))], axis=1)
    tall_head, wide_head = (train(Recipe(loss), features, y, C) for features in (X, wide))
    np.testing.assert_allclose(wide_head.coef[:, 6:], 0, atol=1e-12)
    tolerance = 5e-2 if loss == "hinge" else 1e-5
    np.testing.assert_allclose(wide_head.coef[:, :6], tall_head.coef, atol=tolerance)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic", "softmax", "squared"])
@quick
@given(seed=seeds, C=Cs, repeats=st.integers(2, 4))
def test_class_weights_are_repeated_images(loss: Any, seed: int, C: float, repeats: int) -> None:
    X, y = problem(30, 8, 3, seed)
    again = np.concatenate([X] + [X[y == 1]] * (repeats - 1))
    labels = np.concatenate([y] + [y[y == 1]] * (repeats - 1))
    weighted = train(Recipe(loss, class_weight={1: repeats}), X, y, C)
    repeated = train(Recipe(loss), again, labels, C)
    np.testing.assert_allclose(weighted.coef, repeated.coef, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(weighted.intercept, repeated.intercept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic", "softmax", "squared"])
@quick
@given(seed=seeds, C=Cs)
def test_permuted_classes_permute_the_rows(loss: Any, seed: int, C: float) -> None:
    X, y = problem(30, 8, 4, seed)
    order = np.random.default_rng(seed).permutation(4)
    plain, permuted = train(Recipe(loss), X, y, C), train(Recipe(loss), X, order[y], C)
    np.testing.assert_allclose(permuted.coef[order], plain.coef, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(permuted.intercept[order], plain.intercept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic", "squared"])
@quick
@given(seed=seeds, C=Cs)
def test_labels_are_separate_binary_heads(loss: Any, seed: int, C: float) -> None:
    X, _ = problem(30, 8, 3, seed)
    labels = (np.random.default_rng(seed).random((30, 3)) < 0.4).astype(np.int64)
    labels[0], labels[1] = 0, 1
    weight = np.random.default_rng(seed + 1).integers(0, 2, (30, 3)).astype(float)
    weight[:2] = 1
    both = train(Recipe(loss), X, labels, np.array([C, 2 * C, 3 * C]), weight)
    for k in range(3):
        one = train(Recipe(loss), X, labels[:, k], (k + 1) * C, weight[:, k])
        np.testing.assert_allclose(both.coef[k], one.coef[0], rtol=1e-4, atol=1e-6)


def test_two_images_by_hand() -> None:
    """x = 1 of the first class and x = -1 of the second: w = C' / (1 + C') for 2 images.

    The squared hinge: w^2 / 2 + 2 C (1 - w)^2, so w = 4 C / (1 + 4 C). The hinge: w = min(2 C, 1).
    Ridge is the squared hinge here.
    """
    X, y = np.array([[-1.0], [1.0]]), np.array([0, 1])
    for loss, C, w in (
        ("squared_hinge", 0.25, 0.5),
        ("squared", 0.25, 0.5),
        ("squared_hinge", 1.0, 0.8),
        ("hinge", 0.25, 0.5),
        ("hinge", 3.0, 1.0),
    ):
        head = train(Recipe(loss), X, y, C)
        np.testing.assert_allclose(head.coef, [[w]], atol=1e-3 if loss == "hinge" else 1e-9)
        np.testing.assert_allclose(head.intercept, [0], atol=1e-3 if loss == "hinge" else 1e-9)


def test_a_regularised_intercept_is_a_feature_of_that_value() -> None:
    """R-CNN's `-B 10`, `-w1 2`, hinge: the same as a constant feature of value 10."""
    X, y = problem(40, 5, 3, 0)
    with_feature = np.concatenate([X, np.full((40, 1), 10.0)], axis=1)
    for loss in ("squared_hinge", "logistic", "softmax", "squared"):
        weighted = 1.0 if loss == "softmax" else 2.0
        recipe = {"positive_weight": weighted}
        ours = train(Recipe(loss, intercept="regularised", intercept_scale=10, **recipe), X, y, 0.1)
        plain = train(Recipe(loss, intercept="none", **recipe), with_feature, y, 0.1)
        np.testing.assert_allclose(ours.coef, plain.coef[:, :5], atol=1e-6)
        np.testing.assert_allclose(ours.intercept, 10 * plain.coef[:, 5], atol=1e-6)
        assert not plain.intercept.any()

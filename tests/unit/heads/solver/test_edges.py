"""Degenerate data, clear errors, and precision where float32 runs out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from offshelf.errors import InvalidParameter
from offshelf.heads.recipe import Recipe, train
from offshelf.heads.solver.design import Intercept
from tests.unit.heads.solver.problems import objective, problem

LOSSES = ("squared_hinge", "hinge", "logistic", "softmax", "squared")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("C", [1e-6, 1.0])
def test_constant_columns_duplicates_and_one_image_a_class_are_solved(loss: Any, C: float) -> None:
    X, _ = problem(4, 6, 4, 0)
    X[:, 2] = 3.0
    X, y = np.concatenate([X, X]), np.tile(np.arange(4), 2)
    for rows in (slice(0, 4), slice(0, 8)):
        head = train(Recipe(loss), X[rows], y[rows], C)
        assert head.warnings == ()
        assert np.isfinite(head.coef).all()
        np.testing.assert_allclose(head.coef[:, 2], 0, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic", "softmax", "squared"])
@pytest.mark.parametrize("C", [1e3, 1e5])
def test_separable_images_and_little_regularisation_converge(loss: Any, C: float) -> None:
    X, y = problem(60, 200, 3, 1)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    rough, exact = (train(Recipe(loss), X.astype(dtype), y, C) for dtype in (np.float32, float))
    assert rough.warnings == exact.warnings == ()
    values = [objective(loss, h.coef, h.intercept, X, y, C) for h in (rough, exact)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4)
    scores = X @ exact.coef.T + exact.intercept
    np.testing.assert_array_equal(scores.argmax(axis=1), y)


def test_where_float32_does_not_reach_float64_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offshelf.heads.recipe.SMALL", 0)
    X, y = problem(60, 200, 3, 1)
    X = (X + 30).astype(np.float32)
    head = train(Recipe("squared_hinge", intercept="none", tol=1e-9), X, y, 1e4)
    assert (head.precision, head.warnings) == ("float64", ())
    exact = train(Recipe("squared_hinge", intercept="none"), X.astype(float), y, 1e4)
    np.testing.assert_allclose(head.objective.sum(), exact.objective.sum(), rtol=1e-6)


def test_strong_regularisation_leaves_almost_no_weights() -> None:
    X, y = problem(30, 5, 3, 0)
    for loss in LOSSES:
        assert np.abs(train(Recipe(loss), X, y, 1e-9).coef).max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(30, np.int64)}, "one class"),
        ({"y": np.arange(29) % 3}, "30 rows of features, but targets of 29"),
        ({"X": np.full((30, 5), np.nan)}, "NaN"),
        ({"X": np.zeros((30, 0))}, "both above 0"),
        ({"C": 0.0}, "C is a number above 0"),
        ({"C": np.inf}, "C is a number above 0"),
        ({"C": np.array([1.0, 2.0])}, "one C, or 3"),
        ({"sample_weight": np.full(30, -1.0)}, "0 or more"),
        ({"sample_weight": np.ones(29)}, "one an image"),
        ({"y": np.full((30, 2), 2)}, "0 and 1"),
        ({"y": np.ones((30, 2), np.int64)}, "none for"),
    ],
)
def test_what_cannot_train_is_refused_with_the_reason(change: dict[str, Any], message: str) -> None:
    X, y = problem(30, 5, 3, 0)
    arguments: dict[str, Any] = {"X": X, "target": change.pop("y", y), "C": 1.0} | change
    with pytest.raises(InvalidParameter, match=message):
        train(Recipe(), **arguments)


def test_recipes_refuse_what_makes_no_sense() -> None:
    with pytest.raises(InvalidParameter, match="dropout"):
        Recipe(dropout=1.0)
    with pytest.raises(InvalidParameter, match="positive_weight"):
        Recipe("softmax", positive_weight=2.0)
    with pytest.raises(InvalidParameter, match="'free', 'regularised' or 'none'"):
        Intercept("sometimes")  # type: ignore[arg-type]
    X, y = problem(30, 5, 3, 0)
    with pytest.raises(InvalidParameter, match="one class an image"):
        train(Recipe("softmax"), X, np.eye(3, dtype=np.int64)[y], 1.0)


def test_dropout_is_seeded_and_scales_what_is_left() -> None:
    X, y = problem(60, 8, 3, 0)
    dropped = Recipe("squared_hinge", dropout=0.5, seed=1)
    first, again, other = (
        train(recipe, X, y, 1.0) for recipe in (dropped, dropped, replace(dropped, seed=2))
    )
    np.testing.assert_array_equal(first.coef, again.coef)
    assert np.abs(first.coef - other.coef).max() > 1e-3
    import torch

    kept = torch.rand(X.shape, generator=torch.Generator().manual_seed(1)).numpy() >= 0.5
    plain = train(Recipe("squared_hinge"), X * kept, y, 1.0)
    np.testing.assert_allclose(first.coef, plain.coef / 2, rtol=1e-9)
    np.testing.assert_allclose(first.intercept, plain.intercept, rtol=1e-9)


def test_standardised_features_are_those_that_were_standardised_before() -> None:
    X, y = problem(60, 8, 3, 0)
    X[:, 1] *= 100
    X[:, 3] = 5
    scale = np.where(X.std(axis=0) > 1e-9, X.std(axis=0), 1)
    ours = train(Recipe("softmax", standardise=True), X, y, 1.0)
    before = train(Recipe("softmax"), (X - X.mean(axis=0)) / scale, y, 1.0)
    np.testing.assert_allclose(ours.coef, before.coef / scale, atol=1e-7)
    scores = (X - X.mean(axis=0)) / scale @ before.coef.T + before.intercept
    np.testing.assert_allclose(X @ ours.coef.T + ours.intercept, scores, atol=1e-6)


def test_balanced_classes_weigh_the_same() -> None:
    X, y = problem(60, 8, 3, 0)
    y[y == 2] = np.where(np.arange((y == 2).sum()) < 15, 0, 2)
    counts = np.bincount(y)
    given = {k: 60 / (3 * counts[k]) for k in range(3)}
    balanced, explicit = (
        train(Recipe("softmax", class_weight=weights), X, y, 1.0) for weights in ("balanced", given)
    )
    np.testing.assert_allclose(balanced.coef, explicit.coef, rtol=1e-9)


def test_a_check_that_raises_ends_the_training() -> None:
    class Cancelled(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Cancelled

    X, y = problem(60, 80, 3, 0)
    for loss in ("squared_hinge", "softmax", "hinge"):
        calls = 0
        with pytest.raises(Cancelled):
            train(Recipe(loss, check=check), X, y, 10.0)

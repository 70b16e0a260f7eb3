"""Probabilities of scores, against scipy's minimisers and scikit-learn's calibration."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import LinearSVC

from offshelf.heads.calibration import (
    HeldOut,
    calibrate,
    fit_platt,
    fit_temperature,
    probabilities,
)
from offshelf.heads.learn import Examples, learn
from offshelf.heads.model import decide
from offshelf.heads.solver.folds import stratified
from offshelf.schemas.learning import Calibration, Learning

RANDOM = np.random.default_rng(5)


def problem(classes: int, images: int = 240) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(images) % classes
    return RANDOM.normal(size=(images, 8)) + 1.5 * np.eye(classes, 8)[y], y.astype(np.int64)


def nll(scores: np.ndarray, y: np.ndarray, temperature: float) -> float:
    return float(-log_softmax(scores / temperature, axis=1)[np.arange(len(y)), y].mean())


@given(st.integers(3, 6), st.floats(0.05, 30), st.integers(0, 1000))
def test_the_temperature_is_that_of_an_independent_minimiser(
    classes: int, scale: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, 80)
    scores = scale * (random.normal(size=(80, classes)) + np.eye(classes)[y])
    found = fit_temperature(scores, y)
    least = minimize_scalar(
        lambda log: nll(scores, y, np.exp(log)), bounds=(-6, 8), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    assert nll(scores, y, found) <= least.fun + 1e-9
    assert fit_temperature(10 * scores, y) == pytest.approx(10 * found, rel=1e-5)


def test_of_two_classes_the_temperature_is_of_the_sigmoid_of_the_second() -> None:
    y = RANDOM.integers(0, 2, 100)
    margin = 3 * (RANDOM.normal(size=100) + 2 * y - 1)
    found = fit_temperature(np.stack([-margin, margin], 1), y)
    signed = margin * (2 * y - 1)
    least = minimize_scalar(
        lambda t: np.logaddexp(0, -signed / t).mean(), bounds=(0.01, 100), method="bounded"
    )
    assert found == pytest.approx(least.x, rel=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_without_an_error_or_without_a_hit_have_a_temperature_all_the_same(
    sign: int,
) -> None:
    y = np.arange(30) % 3
    scores = sign * 5.0 * np.eye(3)[y]
    found = fit_temperature(scores, y)
    assert np.isfinite(found)
    assert nll(scores, y, found) < (1e-6 if sign > 0 else np.log(3) + 1e-3)
    assert fit_temperature(np.zeros((30, 3)), y) == 1.0


@given(st.integers(1, 79), st.floats(0.01, 50), st.integers(0, 1000))
def test_platt_s_sigmoid_is_that_of_an_independent_minimiser(
    count: int, scale: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    positive = np.arange(80) < count
    scores = scale * (random.normal(size=80) + positive)
    drawn = np.where(positive, (count + 1) / (count + 2), 1 / (80 - count + 2))

    def loss(at: np.ndarray) -> float:
        odds = at[0] * scores / scale + at[1]
        return float((np.logaddexp(0, odds) - drawn * odds).sum())

    least = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-8}).fun
    slope, offset = fit_platt(scores, positive)
    assert loss(np.array([slope * scale, offset])) <= least + 1e-6


@pytest.mark.parametrize("positives", [0, 40])
def test_a_class_of_all_images_or_none_has_a_probability_too(positives: int) -> None:
    positive = np.arange(40) < positives
    slope, offset = fit_platt(RANDOM.normal(size=40), positive)
    said = expit(slope * 0.0 + offset)
    assert said == pytest.approx(41 / 42 if positives else 1 / 42, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 4])
def test_platt_of_the_folds_is_what_scikit_learn_calibrates(classes: int) -> None:
    X, y = problem(classes)
    X = X.astype(np.float32)
    names = [str(k) for k in range(classes)]
    examples = Examples(X, y, names, np.zeros(0, np.int64))
    learned = learn(Learning(C=0.1, calibrate="platt", seed=3), examples)
    scores = decide(learned.fitted.coef, learned.fitted.intercept, X)
    said = probabilities("svm", scores, learned.calibration, multi_label=False)
    theirs = CalibratedClassifierCV(
        LinearSVC(C=0.1, dual=False, tol=1e-8), cv=stratified(y, 5, 3), ensemble=False
    )
    expected = theirs.fit(X.astype(np.float64), y).predict_proba(X.astype(np.float64))
    np.testing.assert_allclose(said, expected, atol=2e-3)


def test_platt_of_labels_leaves_out_what_does_not_count() -> None:
    X = RANDOM.normal(size=(200, 6)).astype(np.float32)
    labels = np.where(X[:, :2] + RANDOM.normal(size=(200, 2)) > 0, 1, -1).astype(np.int64)
    labels[:40, 1] = 0
    examples = Examples(X, labels, ["a", "b"], np.zeros(0, np.int64))
    learned = learn(Learning(C=0.5, calibrate="platt"), examples)
    said = probabilities(
        "svm", decide(learned.fitted.coef, learned.fitted.intercept, X), learned.calibration,
        multi_label=True,
    )  # fmt: skip
    assert learned.calibration is not None
    assert learned.calibration.images == 360
    folds = stratified((labels > 0).astype(np.int64), 5, 0)
    for k, counted in enumerate((np.arange(200), np.arange(40, 200))):
        place = {row: at for at, row in enumerate(counted)}
        cv = [
            tuple(np.array([place[row] for row in side if row in place]) for side in fold)
            for fold in folds
        ]
        theirs = CalibratedClassifierCV(
            LinearSVC(C=0.5, dual=False, tol=1e-8), cv=cv, ensemble=False
        ).fit(X[counted].astype(np.float64), labels[counted, k])
        expected = theirs.predict_proba(X.astype(np.float64))[:, 1]
        np.testing.assert_allclose(said[:, k], expected, atol=2e-3)


@given(
    st.sampled_from(["svm", "logreg", "logreg-ovr"]),
    st.sampled_from([None, "temperature", "platt"]),
    st.integers(2, 5),
    st.floats(1e-3, 1e6),
)
def test_probabilities_are_shares(
    kind: str, method: str | None, classes: int, scale: float
) -> None:
    scores = scale * np.random.default_rng(classes).normal(size=(20, classes))
    if classes == 2:
        scores = scores[:, 1:] * [-1, 1]
    figures = dict.fromkeys(("ece_before", "ece_after", "nll_before", "nll_after"), 0.0)
    calibration = None
    if method is not None:
        fitted = {"temperature": 2.5} if method == "temperature" else {
            "slopes": [1.5] * classes, "offsets": [-0.5] * classes,
        }  # fmt: skip
        calibration = Calibration(method=method, held_out="", images=1, **fitted, **figures)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = probabilities(kind, scores, calibration, multi_label=False)
    if kind == "svm" and method is None:
        assert said is None
        return
    assert said is not None
    assert (said >= 0).all()
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-9)
    if method == "temperature":
        np.testing.assert_array_equal(said.argmax(1), scores.argmax(1))


def test_overconfident_scores_are_better_calibrated_afterwards() -> None:
    y = RANDOM.integers(0, 4, 3000)
    logits = RANDOM.normal(size=(3000, 4)) + 1.5 * np.eye(4)[y]
    held = HeldOut(8 * logits, y, "5 folds")
    # Sigmoids over their sum are no softmax: they are too careful here.
    for method, left in (("temperature", 0.02), ("platt", 0.12)):
        found = calibrate(method, "logreg", held)
        assert found.ece_before > 0.2
        assert found.ece_after < left
        assert found.nll_after < found.nll_before
        assert (found.images, found.held_out) == (3000, "5 folds")

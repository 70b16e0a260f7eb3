from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from offshelf.core.spec import FeatureSpec, Preprocessing
from offshelf.errors import FingerprintMismatch, InvalidParameter, UnknownName
from offshelf.heads import model
from offshelf.heads.interface import SOLVERS, check_classes
from offshelf.heads.recipe import Recipe, as_solver
from offshelf.schemas.base import WeightsBody
from offshelf.schemas.heads import Head, HeadKind, Metrics
from tests.unit.worker.fakes import MemoryStore

PRE = Preprocessing(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
SPEC = FeatureSpec("alexnet", "d" * 64, "fc7", "center", PRE)
METRICS = Metrics(images=1, accuracy=1.0, mean_class_accuracy=1.0, per_class={"a": 1.0})


def problem(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(60, dtype=np.int64) % classes
    X = random.normal(size=(60, 8)).astype(np.float32) + 2 * np.eye(8, dtype=np.float32)[y]
    return X, y


def head(kind: HeadKind, classes: int, C: float = 0.5) -> model.LinearHead:
    X, y = problem(classes)
    fitted = SOLVERS.get(kind)(X, y, C)
    card = Head(
        id="h",
        owner="o",
        name="",
        kind=kind,
        C=C,
        classes=[f"class{n}" for n in range(classes)],
        spec=SPEC.to_dict(),
        fingerprint=SPEC.fingerprint,
        weights=WeightsBody(source="random", label="", digest="", licence="", random=True),
        dataset="d",
        split=None,
        train=METRICS,
        test=None,
        created_s=0.0,
        versions={},
    )
    return model.LinearHead(card, fitted.coef, fitted.intercept)


def test_every_kind_is_found() -> None:
    assert SOLVERS.names() == [
        "logreg",
        "logreg-dropout",
        "logreg-ovr",
        "nearest-mean",
        "ridge",
        "svm",
        "svm-dropout",
        "svm-hinge",
    ]


@pytest.mark.parametrize("classes", [2, 5])
def test_svm_margins_are_those_of_scikit_learn(classes: int) -> None:
    X, y = problem(classes)
    theirs = LinearSVC(C=0.5, dual="auto", random_state=0, max_iter=20_000).fit(X, y)
    scores = theirs.decision_function(X)
    scores = np.stack([-scores, scores], axis=1) if classes == 2 else scores
    np.testing.assert_allclose(head("svm", classes).decision(X), scores, atol=2e-3)


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_are_those_of_scikit_learn(classes: int) -> None:
    X, y = problem(classes)
    theirs = LogisticRegression(C=0.5, tol=1e-9, max_iter=5000).fit(X.astype(np.float64), y)
    ours = head("logreg", classes).probabilities(X)
    np.testing.assert_allclose(ours, theirs.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-6)


def test_probabilities_of_many_labels_are_each_class_s_own() -> None:
    X, _ = problem(5)
    one = head("logreg", 5)
    many = replace(one, card=one.card.model_copy(update={"multi_label": True}))
    expected = 1 / (1 + np.exp(-one.decision(X).astype(np.float64)))
    np.testing.assert_allclose(many.probabilities(X), expected, atol=1e-6)
    assert np.isfinite(many.probabilities(1000 * X)).all()


@pytest.mark.parametrize("kind", ["svm", "logreg"])
def test_fitting_again_gives_the_same_and_leaves_the_input_alone(kind: HeadKind) -> None:
    X, y = problem(3)
    before = X.copy()
    first, second = (SOLVERS.get(kind)(X, y, 1.0) for _ in range(2))
    np.testing.assert_array_equal(first.coef, second.coef)
    np.testing.assert_array_equal(X, before)
    assert (first.coef.dtype, first.coef.shape) == (np.float32, (3, 8))


@pytest.mark.parametrize("kind", ["svm", "logreg"])
def test_predicting_a_slice_is_slicing_the_prediction(kind: HeadKind) -> None:
    X, _ = problem(3)
    whole = head(kind, 3).scores(X)
    np.testing.assert_allclose(head(kind, 3).scores(X[7:9]), whole[7:9], rtol=1e-6, atol=1e-7)
    assert head(kind, 3).scores(X[:0]).shape == (0, 3)


def test_maps_are_flattened_in_c_order() -> None:
    X, _ = problem(3)
    maps = X.reshape(-1, 2, 2, 2)
    np.testing.assert_array_equal(head("svm", 3).decision(maps), head("svm", 3).decision(X))
    with pytest.raises(InvalidParameter, match="8 are needed"):
        head("svm", 3).decision(X[:, :7])


def test_an_svm_has_no_probabilities() -> None:
    with pytest.raises(InvalidParameter):
        head("svm", 2).probabilities(problem(2)[0])


def test_a_head_comes_back_from_the_store_as_it_was_and_is_written_once() -> None:
    store, first = MemoryStore(), head("logreg", 3)
    model.save(store, first)
    model.save(store, replace(first, coef=first.coef + 1))
    back = model.load(store, "o", "h")
    assert back.card == first.card
    np.testing.assert_array_equal(back.coef, first.coef)
    with pytest.raises(UnknownName):
        model.load(store, "other", "h")


def test_other_features_are_refused_by_what_differs() -> None:
    head("svm", 2).check(SPEC)
    other = replace(SPEC, tap="fc6", normalisation="l2")
    with pytest.raises(FingerprintMismatch, match="tap: fc7 != fc6; normalisation: none != l2"):
        head("svm", 2).check(other)


def test_one_class_and_empty_classes_are_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="two classes"):
        check_classes(np.zeros(3, np.int64), ["a"])
    with pytest.raises(InvalidParameter, match="no training image of: b"):
        check_classes(np.array([0, 2]), ["a", "b", "c"])


def test_a_solver_that_does_not_converge_says_so() -> None:
    hasty = as_solver(Recipe("softmax", max_steps=1))
    (warning,) = hasty(*problem(3), 10.0).warnings
    assert "not converged" in warning

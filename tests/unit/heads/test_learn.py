"""A training whole: choices against scikit-learn's grid search, labels, options, refusals."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from offshelf.core.scoring import average_precision
from offshelf.errors import InvalidParameter
from offshelf.heads.interface import SOLVERS
from offshelf.heads.learn import Examples, learn
from offshelf.heads.recipe import RecipeSolver
from offshelf.heads.solver.folds import stratified
from offshelf.schemas import learning as schema
from offshelf.schemas.learning import HeadKind, Learning

RANDOM = np.random.default_rng(11)
NAMES = ["ant", "bee", "cow", "dog"]
Y = np.arange(160, dtype=np.int64) % 4
X = (RANDOM.normal(size=(160, 12)) + 1.2 * np.eye(4, 12)[Y]).astype(np.float32)
LABELS = np.where(X[:, :3] + RANDOM.normal(size=(160, 3)) > 0.5, 1, -1).astype(np.int64)
CS = [0.001, 0.01, 0.1, 1.0, 10.0]
NONE = np.zeros(0, np.int64)
CLASSES = Examples(X, Y, NAMES, np.arange(0, 160, 3))
MANY = Examples(X, LABELS, NAMES[:3], np.arange(0, 160, 3))


def theirs(kind: str) -> Any:
    if kind == "svm":
        return LinearSVC(dual=False, tol=1e-8, max_iter=10_000)
    return LogisticRegression(tol=1e-8, max_iter=10_000)


@pytest.mark.parametrize("kind", ["svm", "logreg"])
@pytest.mark.parametrize("folds", [4, "val"])
def test_the_choice_is_that_of_a_grid_search(kind: str, folds: int | str) -> None:
    wanted = Learning(kind=kind, C={"choose": CS, "folds": folds}, seed=5)
    found = learn(wanted, CLASSES)
    cv: Any = stratified(Y, 4, 5)
    if folds == "val":
        cv = PredefinedSplit(np.where(np.isin(np.arange(160), CLASSES.val), 0, -1))
    grid = GridSearchCV(theirs(kind), {"C": CS}, cv=cv).fit(X.astype(np.float64), Y)
    assert found.choice is not None
    assert [point.C for point in found.choice.path] == CS
    held_out = 160 if folds == 4 else len(CLASSES.val)
    np.testing.assert_allclose(
        [point.mean for point in found.choice.path],
        grid.cv_results_["mean_test_score"],
        atol=1.01 / held_out,  # one image on the border
    )
    assert grid.cv_results_["mean_test_score"][CS.index(found.C)] > grid.best_score_ - 0.01
    best = theirs(kind).set_params(C=found.C).fit(X.astype(np.float64), Y)
    scale = np.abs(best.coef_).max()
    ours = found.fitted.coef
    if kind == "logreg":  # a softmax's rows are told but for what they share
        ours = ours - ours.mean(axis=0)
        best.coef_ = best.coef_ - best.coef_.mean(axis=0)
    np.testing.assert_allclose(ours, best.coef_, atol=1e-4 * scale)
    assert found.choice.held_out == ("4 folds" if folds == 4 else "validation images")
    (point,) = (point for point in found.choice.path if point.C == found.C)
    assert found.choice.score == point.mean
    if folds == 4:
        assert point.deviation == pytest.approx(np.std(point.folds, ddof=1))
    else:
        assert (point.deviation, len(point.folds)) == (None, 1)


def test_a_c_for_each_label_is_the_best_of_each() -> None:
    labels = LABELS.copy()
    labels[:30, 1] = 0
    choice = {"choose": CS, "folds": 4, "per_class": True}
    found = learn(Learning(kind="logreg", C=choice), Examples(X, labels, NAMES[:3], NONE))
    assert found.choice is not None
    assert found.choice.metric == "map_all_point"
    for k, name in enumerate(NAMES[:3]):
        means = [mean_ap(labels[:, k], C, stratified((labels > 0).astype(int), 4, 0)) for C in CS]
        C = found.choice.by_class[name]
        assert means[CS.index(C)] == pytest.approx(max(means), abs=2e-3)
        assert found.choice.scores_by_class[name] == pytest.approx(max(means), abs=2e-3)
        counted = labels[:, k] != 0
        alone = theirs("logreg").set_params(C=C).fit(X[counted], labels[counted, k])
        np.testing.assert_allclose(found.fitted.coef[k], alone.coef_[0], atol=1e-4)
    expected = np.exp(np.mean(np.log(list(found.choice.by_class.values()))))
    assert pytest.approx(expected) == found.C


def mean_ap(column: np.ndarray, C: float, folds: list[Any]) -> float:
    scores = []
    for train, held_out in folds:
        rows = train[column[train] != 0]
        fitted = theirs("logreg").set_params(C=C).fit(X[rows].astype(np.float64), column[rows])
        said = fitted.decision_function(X[held_out])
        scores.append(average_precision(column[held_out], said, "all"))
    return float(np.mean(scores))


@pytest.mark.parametrize("kind", ["svm", "logreg", "logreg-ovr"])
def test_labels_side_by_side_are_what_each_is_alone(kind: str) -> None:
    labels = LABELS.copy()
    labels[::7, 0] = 0
    found = learn(
        Learning(kind=kind, C=0.3, class_weight="balanced", positive_weight=2.0),
        Examples(X, labels, NAMES[:3], NONE),
    ).fitted
    for k in range(3):
        counted = labels[:, k] != 0
        positive = labels[counted, k] > 0
        weight = np.where(positive, 2.0, 1.0) * len(positive) / 2
        weight /= np.where(positive, positive.sum(), (~positive).sum())
        alone = theirs(kind).set_params(C=0.3)
        alone.fit(X[counted].astype(np.float64), positive, sample_weight=weight)
        np.testing.assert_allclose(found.coef[k], alone.coef_[0], atol=2e-4)
        np.testing.assert_allclose(found.intercept[k], alone.intercept_[0], atol=2e-4)


def test_options_are_the_recipe_s() -> None:
    wanted = Learning(
        kind="svm", C=0.2, class_weight={"bee": 3.0}, standardise=True, intercept_scale=10.0
    )
    found = learn(wanted, CLASSES).fitted
    scaler = StandardScaler().fit(X.astype(np.float64))
    weight = np.where(Y == 1, 3.0, 1.0)  # in every problem; LIBLINEAR's is in the class's own
    alone = LinearSVC(C=0.2, intercept_scaling=10.0, dual=False, tol=1e-8)
    alone.fit(scaler.transform(X.astype(np.float64)), Y, sample_weight=weight)
    np.testing.assert_allclose(found.coef, alone.coef_ / scaler.scale_, atol=2e-4)


def test_a_seed_decides_folds_and_dropout() -> None:
    def coef(seed: int) -> np.ndarray:
        wanted = Learning(kind="svm-dropout", C={"choose": [0.1], "folds": 3}, seed=seed)
        return learn(wanted, CLASSES).fitted.coef

    np.testing.assert_array_equal(coef(1), coef(1))
    assert np.abs(coef(1) - coef(2)).max() > 1e-3


def test_every_fit_of_a_search_is_told_and_none_is_promised_too_few() -> None:
    told: list[tuple[float, int, int]] = []
    for choose, most in (([0.1, 1.0], 2), ("vissl", 11), ("clip", 15)):
        told.clear()
        learn(
            Learning(kind="ridge", C={"choose": choose, "folds": 2}), CLASSES,
            progress=lambda cell, total: told.append((cell.C, cell.fold, total)),
        )  # fmt: skip
        assert {total for _, _, total in told} == {2 * most}
        assert len(told) == len(set(told)) <= 2 * most
        assert len(told) >= 2 * most - 8


def test_the_protocol_s_first_figure_chooses_unless_another_is_asked_for() -> None:
    def metric(learning: Learning, examples: Examples = CLASSES, first: Any = None) -> str:
        choice = learn(learning, examples, first).choice
        assert choice is not None
        return choice.metric

    wanted = Learning(kind="ridge", C={"choose": [1.0], "folds": 2})
    assert metric(wanted) == "accuracy"
    assert metric(wanted, MANY) == "map_all_point"
    assert metric(wanted, first="mean_class_accuracy") == "mean_class_accuracy"
    assert metric(wanted, MANY, "map_11pt") == "map_11pt"
    asked = Learning(kind="ridge", C={"choose": [1.0], "folds": 2, "metric": "accuracy"})
    assert metric(asked, first="mean_class_accuracy") == "accuracy"
    each = Learning(kind="ridge", C={"choose": [1.0], "folds": 2, "per_class": True})
    assert metric(each, first="accuracy") == "map_all_point"


def test_a_choice_at_the_end_of_its_list_is_told() -> None:
    found = learn(Learning(kind="svm", C={"choose": [1e-9, 1e-8, 1e-7]}), CLASSES)
    assert any("at an end of the list" in warning for warning in found.fitted.warnings)


@pytest.mark.parametrize(
    ("options", "examples", "why"),
    [
        ({"C": {"choose": "vissl", "per_class": True}, "kind": "logreg"}, CLASSES, "has one C"),
        ({"positive_weight": 2, "kind": "logreg"}, CLASSES, "has no positives"),
        ({"C": {"choose": "vissl", "folds": 41}}, CLASSES, "ant has 40: ask for 40 folds at most"),
        ({"C": {"choose": "vissl", "folds": "val"}}, Examples(X, Y, NAMES, NONE), "has none; ask"),
        (
            {"C": {"choose": "vissl", "folds": "val"}},
            Examples(X, Y, NAMES, np.flatnonzero(Y == 2)),
            "none of: cow",
        ),
        ({"C": {"choose": "vissl", "metric": "map_11pt"}, "kind": "logreg"}, CLASSES, "accuracy"),
        ({"C": {"choose": "vissl", "metric": "accuracy"}}, MANY, "these have labels: map_11pt"),
        (
            {"C": {"choose": "vissl", "metric": "accuracy", "per_class": True}},
            CLASSES,
            "a score of each class, which accuracy is not",
        ),
        ({"calibrate": "temperature"}, MANY, "these have labels: platt"),
        ({"class_weight": {"elk": 2.0}}, CLASSES, "names elk; the classes are ant, bee, cow, dog"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_would(
    options: dict[str, Any], examples: Examples, why: str
) -> None:
    with pytest.raises(InvalidParameter, match=why):
        learn(Learning(**options), examples)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"C": 0}, "greater than 0"),
        ({"C": {"choose": [1.0, 1.0]}}, "twice"),
        ({"C": {"choose": []}}, "at least 1 item"),
        ({"C": {"choose": "vissl", "folds": 1}}, "greater than or equal to 2"),
        ({"C": {"choose": "vissl", "fold": 3}}, "fold"),
        ({"intercept_scale": 10, "kind": "logreg"}, "say intercept=regularised too"),
        ({"dropout": 1.0}, "less than 1"),
        ({"kind": "nearest-mean", "C": {"choose": "vissl"}}, "no use for a choice of C"),
        ({"kind": "nearest-mean", "dropout": 0.5}, "no use for dropout"),
    ],
)
def test_options_that_nothing_could_mean_are_no_request(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Learning(**options)


def test_what_the_wire_says_of_kinds_is_what_they_are() -> None:
    for kind in get_args(HeadKind):
        solver = SOLVERS.get(kind)
        assert (kind == schema.MEANS) == (not isinstance(solver, RecipeSolver))
        if isinstance(solver, RecipeSolver):
            assert (kind in schema.SOFTMAX_KINDS) == (solver.recipe.loss == "softmax")
            logistic = solver.recipe.loss in ("softmax", "logistic")
            assert (kind in schema.LOGISTIC_KINDS) == logistic
            regularised = solver.recipe.intercept == "regularised"
            assert (kind in schema.REGULARISED_KINDS) == regularised

"""Choosing C: every cell is the head it says it is, and the best is refitted on everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offshelf.errors import InvalidParameter
from offshelf.heads.estimators import Accuracy, ChooseC, LinearSVM, LogisticHead
from offshelf.heads.recipe import Recipe, train, train_choosing
from offshelf.heads.solver import presets
from offshelf.heads.solver.folds import stratified
from tests.unit.heads.solver.problems import problem

CS = (0.01, 0.3, 10.0)


@pytest.mark.parametrize("dimensions", [8, 90])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("loss", ["squared_hinge", "hinge", "logistic", "softmax", "squared"])
def test_every_cell_is_a_head_trained_on_its_fold(
    loss: Any, dropout: float, dimensions: int
) -> None:
    X, y = problem(60, dimensions, 3, 0)
    folds = stratified(y, 3, 0)
    seen: dict[tuple[float, int], np.ndarray] = {}

    def scorer(rows: np.ndarray, scores: np.ndarray) -> float:
        seen[CS[len(seen) % 3], len(seen) // 3] = scores
        return float((scores.argmax(axis=1) == y[rows]).mean())

    recipe = Recipe(loss, dropout=dropout)
    head, path = train_choosing(recipe, X, y, CS, folds, scorer)
    kept = np.ones(X.shape)
    if dropout:
        import torch

        kept = torch.rand(X.shape, generator=torch.Generator().manual_seed(0)).numpy() >= 0.5
    for (C, fold), scores in seen.items():
        rows, held_out = folds[fold]
        alone = train(Recipe(loss), (X * kept)[rows], y[rows], C)
        expected = (X * (1 - dropout))[held_out] @ alone.coef.T + alone.intercept
        tolerance = 3e-2 if loss == "hinge" else 1e-4
        np.testing.assert_allclose(
            scores - scores.mean(axis=1, keepdims=True),
            expected - expected.mean(axis=1, keepdims=True),
            atol=tolerance,
        )
    np.testing.assert_allclose(path.Cs, CS)
    best = CS[int(path.scores[:, 0].argmax())]
    assert head.C.tolist() == [best]
    again = train(recipe, X, y, best)
    np.testing.assert_allclose(head.coef, again.coef, atol=1e-6)
    assert [(cell.fold, cell.C) for cell in path.cells] == [(f, C) for f in range(3) for C in CS]


def test_labels_get_a_value_each_where_asked_for() -> None:
    X, y = problem(60, 8, 3, 0)
    labels = (np.random.default_rng(0).random((60, 3)) < 0.4).astype(np.int64)
    labels[:, 0] = y == 0
    wanted = {0: 0.3, 1: 0.01, 2: 10.0}
    calls = iter([C for _ in range(3) for C in CS])

    def scorer(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        C = next(calls)
        return np.array([1.0 if wanted[k] == C else np.nan for k in range(3)])

    head, path = train_choosing(
        Recipe(), X, labels, CS, stratified(labels, 3, 0), scorer, per_class=True
    )
    assert head.C.tolist() == [0.3, 0.01, 10.0]
    for k in range(3):
        alone = train(Recipe(), X, labels[:, k], wanted[k])
        np.testing.assert_allclose(head.coef[k], alone.coef[0], rtol=1e-5, atol=1e-7)
    assert path.scores.shape == (3, 3)
    with pytest.raises(InvalidParameter, match="one-vs-rest loss"):
        train_choosing(
            Recipe("softmax"), X, y, CS, stratified(y, 3, 0), lambda *_: 1.0, per_class=True
        )


def test_of_equal_scores_the_smallest_value_is_best() -> None:
    X, y = problem(60, 8, 3, 0)
    head, _ = train_choosing(Recipe(), X, y, CS[::-1], stratified(y, 3, 0), lambda *_: 1.0)
    assert head.C.tolist() == [0.01]


def test_the_presets_are_those_of_the_literature() -> None:
    kornblith, clip = presets.values("kornblith"), presets.values("clip")
    assert len(kornblith) == 45
    np.testing.assert_allclose([kornblith[0], kornblith[-1]], [1e-6, 1e5])
    np.testing.assert_allclose(clip, [1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6])
    assert presets.values("vissl")[:3] == (0.01, 0.1, 1.0)
    with pytest.raises(InvalidParameter, match="kornblith, vissl, clip"):
        presets.values("kornblit")


def test_the_clip_search_halves_around_the_peak() -> None:
    """With scores that peak at 10^0.6 the search ends at 10^0.625, the nearest of the grid."""
    tried: list[float] = []

    def best() -> float:
        return min(tried, key=lambda C: abs(np.log10(C) - 0.6))

    presets.refine(tried.extend, best)
    assert np.log10(best()) == pytest.approx(0.625)
    assert len(tried) == 7 + 2 * 4


def test_folds_spread_every_class() -> None:
    y = np.repeat(np.arange(4), [20, 7, 5, 3])
    folds = stratified(y, 5, 0)
    counts = np.array([np.bincount(y[held_out], minlength=4) for _, held_out in folds])
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1
    assert np.sort(np.concatenate([held_out for _, held_out in folds])).tolist() == list(range(35))
    for train_rows, held_out in folds:
        assert not set(train_rows) & set(held_out)
    with pytest.raises(InvalidParameter, match="2 to 35 folds"):
        stratified(y, 36, 0)


@pytest.mark.parametrize("head", [LinearSVM(), LogisticHead()])
def test_the_estimator_keeps_the_path(head: Any) -> None:
    X, y = problem(60, 8, 3, 0)
    names = np.array(["ape", "bee", "cat"])[y]
    cells: list[Any] = []
    chosen = ChooseC(head, Cs=CS, folds=3, progress=cells.append).fit(X, names)
    assert len(cells) == 9
    assert chosen.C_[0] in CS
    assert chosen.score(X, names) > 0.8
    plain = type(head)(C=float(chosen.C_[0])).fit(X, names)
    np.testing.assert_allclose(chosen.coef_, plain.coef_, atol=1e-6)
    clip = ChooseC(head, Cs="clip", folds=3).fit(X, names)
    assert len(clip.path_.Cs) <= 15


def test_accuracy_of_labels_is_one_a_label() -> None:
    labels = np.array([[0, 1], [1, 1]])
    scores = np.array([[-1.0, 2.0], [-1.0, 3.0]])
    np.testing.assert_allclose(Accuracy(labels)(np.array([0, 1]), scores), [0.5, 1.0])

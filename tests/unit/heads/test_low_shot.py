"""Low-shot curves: which images are drawn, what is trained on them, what is refused."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from offshelf.errors import InvalidParameter
from offshelf.heads.fit import FitParams
from offshelf.heads.low_shot import Lessons, check_shots, curve, drawn, fitted_by, spread
from offshelf.schemas.heads import LowShot
from offshelf.schemas.learning import Learning

if TYPE_CHECKING:
    from offshelf.heads.interface import Fitted

NAMES = ["ant", "bee", "cow"]
LABELS = np.repeat([0, 1, 2], [12, 9, 15])


@given(st.integers(1, 9), st.integers(0, 99), st.integers(0, 4))
def test_a_draw_has_k_images_of_every_class(shots: int, seed: int, draw: int) -> None:
    chosen = drawn(LABELS, shots, seed, draw)
    assert np.bincount(chosen[chosen >= 0]).tolist() == [shots] * 3
    assert (chosen[chosen >= 0] == LABELS[chosen >= 0]).all()
    np.testing.assert_array_equal(chosen, drawn(LABELS, shots, seed, draw))


def test_draws_are_independent_of_each_other_and_of_those_of_fewer_images() -> None:
    draws = {
        (shots, seed, draw): frozenset(np.flatnonzero(drawn(LABELS, shots, seed, draw) >= 0))
        for shots in (4, 5)
        for seed in (0, 1)
        for draw in range(5)
    }
    assert len(set(draws.values())) == len(draws)
    assert not all(draws[4, 0, draw] < draws[5, 0, draw] for draw in range(5))


@given(st.integers(1, 4), st.integers(0, 99))
def test_labels_have_k_positives_and_as_many_negatives_for_each_other_class(
    shots: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).choice([-1, 0, 1], p=[0.55, 0.1, 0.35], size=(80, 3))
    chosen = drawn(labels, shots, seed, 0)
    assert (chosen == 1).sum(axis=0).tolist() == [shots] * 3
    assert (chosen == -1).sum(axis=0).tolist() == [2 * shots] * 3  # VISSL: 19 k of 20 classes
    assert (chosen[chosen != 0] == labels[chosen != 0]).all()


def lessons(seed: int = 0) -> Lessons:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([LABELS, np.repeat([0, 1, 2], 20)])
    features = (rng.normal(size=(len(labels), 8)) + 1.2 * np.eye(8)[labels]).astype(np.float32)
    return Lessons(features, labels, np.arange(36), np.arange(36, 96), NAMES)


def means(X: np.ndarray, y: np.ndarray) -> Fitted:
    return fitted_by(FitParams(learning=Learning(kind="nearest-mean"), classes=NAMES), X, y)


def test_the_curve_is_that_of_heads_trained_one_by_one() -> None:
    """Nearest means by distances, on the same draws."""
    data, plan, told = lessons(), LowShot(shots=[8, 1, 8, 3], draws=3, seed=5), list[int]()
    found = curve(plan, data, means, 1.0, told.append)
    assert [point.shots for point in found.points] == [1, 3, 8]
    assert told == list(range(1, 10))
    assert (found.draws, found.seed, found.warnings) == (3, 5, [])
    assert found.sampling == "k random images a class, each draw independent"
    for point in found.points:
        expected = []
        for draw in range(3):
            chosen = drawn(LABELS, point.shots, 5, draw)
            rows = np.flatnonzero(chosen >= 0)
            few, y = data.features[rows], LABELS[rows]
            centres = np.stack([few[y == k].mean(axis=0) for k in range(3)])
            said = cdist(data.features[36:], centres).argmin(axis=1)
            expected.append(float(np.mean(said == data.labels[36:])))
        told_ = point.figures["accuracy"]
        assert told_.values == pytest.approx(expected)
        assert told_.mean == pytest.approx(np.mean(expected))
        assert told_.deviation == pytest.approx(np.std(expected, ddof=1))
        assert set(point.figures) == {"accuracy", "mean_class_accuracy"}

    assert found.points[-1].figures["accuracy"].mean > found.points[0].figures["accuracy"].mean


def test_labels_are_learned_from_what_was_drawn_alone() -> None:
    """Each class is fitted on its k positives and 2 k negatives: 6 images here, all told."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((90, 3)) < 0.4, 1, -1)
    features = (rng.normal(size=(90, 6)) + np.pad(labels, ((0, 0), (0, 3)))).astype(np.float32)
    data = Lessons(features, labels, np.arange(60), np.arange(60, 90), NAMES)
    seen = []

    def fit(X: np.ndarray, y: np.ndarray) -> Fitted:
        seen.append(((y == 1).sum(axis=0).tolist(), (y == -1).sum(axis=0).tolist()))
        assert (y != 0).any(axis=1).all()
        return fitted_by(FitParams(learning=Learning(kind="svm"), classes=NAMES), X, y)

    found = curve(LowShot(shots=[2], draws=2), data, fit, 1.0)
    assert seen == [([2] * 3, [4] * 3)] * 2
    (point,) = found.points
    assert set(point.figures) == {"map_11pt", "map_all_point"}
    assert "(K - 1) k random negatives" in found.sampling


def test_too_few_images_are_refused_by_the_class_and_what_it_has() -> None:
    check_shots(LowShot(shots=[9]), LABELS, NAMES)
    with pytest.raises(InvalidParameter, match=r"10 shots need .* class 'bee' has enough for 9"):
        check_shots(LowShot(shots=[2, 10]), LABELS, NAMES)
    labels = np.full((10, 3), -1)
    labels[:4] = 1
    check_shots(LowShot(shots=[3]), labels, NAMES)  # 6 negatives are 2 x 3
    with pytest.raises(InvalidParameter, match=r"2 times as many .* 'ant' has enough for 3"):
        check_shots(LowShot(shots=[4]), labels, NAMES)
    with pytest.raises(InvalidParameter, match="enough for 9"):
        curve(LowShot(shots=[16]), lessons(), means, 1.0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_deviations_divide_by_one_less(values: list[float]) -> None:
    found = spread(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(statistics.stdev(values))


def test_one_draw_has_no_deviation() -> None:
    assert spread([0.5]).deviation is None

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.adaptation.score_maps import ScoreMap, image_scores
from offshelf.core.windows import Pyramid
from offshelf.errors import InvalidParameter


def by_pixels(windows: np.ndarray, scores: np.ndarray, width: int, height: int) -> np.ndarray:
    """Mean over the covering windows, pixel by pixel; NaN where there is none."""
    sums = np.zeros((scores.shape[1], height, width))
    count = np.zeros((height, width))
    for (left, top, right, bottom), row in zip(windows, scores, strict=True):
        sums[:, top:bottom, left:right] += row[:, None, None]
        count[top:bottom, left:right] += 1
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, sums / count, np.nan)


@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 2**32 - 1))
def test_a_map_is_the_mean_of_the_covering_windows(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = Pyramid((1.0, 1.6, 2.8)).windows(width, height)
    windows = windows[rng.random(len(windows)) < 0.5]
    scores = rng.random((len(windows), 3))
    found = ScoreMap.of(windows, scores, width, height)
    expected = by_pixels(windows, scores, width, height)
    for index in range(3):
        pixels = found.at_size(width, height, index)
        assert pixels.shape == (height, width)
        np.testing.assert_allclose(pixels, expected[index], rtol=0, atol=1e-6)


@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 2**32 - 1))
def test_the_peak_is_where_the_map_is_highest(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = Pyramid((1.0, 2.0)).windows(width, height)
    scores = rng.random((len(windows), 1))
    x, y = ScoreMap.of(windows, scores, width, height).peak(0)
    expected = by_pixels(windows, scores, width, height)[0]
    assert expected[int(y), int(x)] == pytest.approx(expected.max(), abs=1e-12)


def test_a_smaller_map_is_the_pixels_at_its_centres() -> None:
    windows = np.array([[0, 0, 40, 40], [20, 0, 60, 40], [0, 0, 60, 40]])
    scores = np.array([[0.9], [0.1], [0.5]])
    found = ScoreMap.of(windows, scores, 60, 40)
    small, full = found.at_size(6, 4, 0), found.at_size(60, 40, 0)
    np.testing.assert_array_equal(small, full[5::10, 5::10])
    assert (found.width, found.height) == (60, 40)


def test_a_large_image_s_map_is_as_small_as_its_windows_are_few() -> None:
    windows = Pyramid().windows(4000, 3000)
    found = ScoreMap.of(windows, np.ones((len(windows), 20)), 4000, 3000)
    assert found.values.nbytes < 4_000_000
    assert found.at_size(512, 384, 7).min() == pytest.approx(1.0)


def test_an_image_s_score_is_the_mean_power() -> None:
    scores = np.array([[0.5, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(image_scores(scores), [(0.5**5 + 1) / 2, 0.5])
    np.testing.assert_allclose(image_scores(scores, 1), [0.75, 0.5])


def test_what_does_not_fit_is_refused() -> None:
    window = np.array([[0, 0, 10, 10]])
    with pytest.raises(InvalidParameter, match="1 windows and 2 rows"):
        ScoreMap.of(window, np.zeros((2, 1)), 10, 10)
    with pytest.raises(InvalidParameter, match="leaves the image of 9 x 10"):
        ScoreMap.of(window, np.zeros((1, 1)), 9, 10)
    with pytest.raises(InvalidParameter, match="without windows"):
        image_scores(np.zeros((0, 3)))
    with pytest.raises(InvalidParameter, match="k is above 0"):
        image_scores(np.zeros((1, 3)), 0)

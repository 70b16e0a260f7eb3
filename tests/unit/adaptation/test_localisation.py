from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.adaptation.localisation import Pointing, chance, hits

CORNERS = st.tuples(
    st.integers(-5, 30), st.integers(-5, 30), st.integers(1, 20), st.integers(1, 20)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def test_a_point_may_miss_by_the_tolerance() -> None:
    boxes = [(100, 100, 200, 150), (0, 0, 10, 10)]
    assert hits((82, 168), boxes)
    assert not hits((81.9, 150), boxes)
    assert not hits((150, 151), boxes, tolerance=0)
    assert hits((5, 5), boxes, tolerance=0)
    assert not hits((5, 5), np.zeros((0, 4)))


@given(st.lists(CORNERS, max_size=4), st.integers(1, 30), st.integers(1, 30), st.integers(0, 3))
def test_chance_is_the_share_of_pixels_that_hit(
    boxes: list[tuple[int, int, int, int]], width: int, height: int, tolerance: int
) -> None:
    grid = [
        hits((x + 0.5, y + 0.5), boxes, tolerance) if boxes else False
        for y in range(height)
        for x in range(width)
    ]
    assert chance(boxes, width, height, tolerance) == pytest.approx(np.mean(grid))


def test_pointing_is_a_mean_beside_its_baseline() -> None:
    assert Pointing.of([True, False, True, True], [0.1, 0.3, 0.2, 0.2]) == Pointing(4, 0.75, 0.2)
    assert math.isnan(Pointing.of([], []).accuracy)

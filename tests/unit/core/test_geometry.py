from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.backbones.imagenet import PRESET
from offshelf.core.geometry import Placement, center_box, fit_short, places
from offshelf.core.view import View

SIDES = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("width", "height", "size", "crop"),
    [
        (256, 256, (256, 256), (16, 16, 240, 240)),
        (500, 375, (341, 256), (58, 16, 282, 240)),  # 58.5 rounds to even
        (375, 500, (256, 341), (16, 58, 240, 282)),
        (1, 1, (256, 256), (16, 16, 240, 240)),
    ],
)
def test_center_is_the_short_side_and_a_central_square(
    width: int, height: int, size: tuple[int, int], crop: tuple[int, int, int, int]
) -> None:
    assert places(View("center"), PRESET, width, height) == (Placement(size, crop),)


def test_warp_ignores_the_aspect() -> None:
    warped = Placement((256, 256), (16, 16, 240, 240))
    assert places(View("warp"), PRESET, 1000, 10) == (warped,)


@given(SIDES, SIDES, st.integers(1, 600))
def test_fit_short_keeps_the_aspect_to_the_pixel(width: int, height: int, side: int) -> None:
    fitted = fit_short(width, height, side)
    assert min(fitted) == side
    assert max(fitted) == int(side * max(width, height) / min(width, height))
    assert (fitted[0] <= fitted[1]) == (width <= height) or fitted[0] == fitted[1]


@given(st.integers(224, 5000), st.integers(224, 5000))
def test_the_central_square_is_inside_and_central(width: int, height: int) -> None:
    left, top, right, bottom = center_box(width, height, 224)
    assert (right - left, bottom - top) == (224, 224)
    assert 0 <= left <= right <= width
    assert 0 <= top <= bottom <= height
    assert abs(left - (width - right)) <= 1

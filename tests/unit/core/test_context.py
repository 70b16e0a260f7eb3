from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.context import Pasted, rcnn_warp, square_around
from offshelf.errors import InvalidParameter


def test_the_worked_example_of_the_released_code() -> None:
    """[50, 60, 149, 139] -> [42, 53, 158, 147], counted from 1 with the last pixel inside."""
    warped = rcnn_warp((49, 59, 149, 139), 500, 375, 227)
    assert warped == Pasted((41, 52, 158, 147), (227, 227), (0, 0))


def test_a_box_in_the_corner_is_shifted_by_what_the_image_lacks() -> None:
    warped = rcnn_warp((0, 0, 100, 100), 100, 100, 227)
    # 1..100 grows to -7..109: of 117 pixels 8 are missing on the left, 9 on the right.
    assert warped == Pasted((0, 0, 100, 100), (194, 194), (16, 16))


@given(
    st.tuples(st.floats(-50, 350), st.floats(-50, 350), st.floats(1, 400), st.floats(1, 400)),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([(227, 16), (224, 0), (224, 24), (72, 5)]),
)
def test_what_is_pasted_is_of_the_image_and_within_the_input(
    shape: tuple[float, float, float, float], width: int, height: int, target: tuple[int, int]
) -> None:
    left, top, wide, high = shape
    side, padding = target
    try:
        warped = rcnn_warp((left, top, left + wide, top + high), width, height, side, padding)
    except InvalidParameter:
        assert left + wide < 1 or top + high < 1 or left > width - 1 or top > height - 1 or padding
        return
    x0, y0, x1, y1 = warped.source
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    for offset, length in zip(warped.offset, warped.size, strict=True):
        assert offset >= 0
        assert length >= 1
        assert offset + length <= side


def test_without_padding_a_box_of_whole_pixels_grows_by_its_rounding_only() -> None:
    """The code rounds centre plus half: without context a box of n pixels is n + 1 of them."""
    assert rcnn_warp((10, 10, 20, 20), 100, 100, 224, 0).source == (10, 10, 21, 21)


def test_boxes_outside_and_paddings_too_wide_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="outside the image of 100 x 100"):
        rcnn_warp((200, 0, 300, 50), 100, 100, 227)
    with pytest.raises(InvalidParameter, match="leaves nothing"):
        rcnn_warp((0, 0, 10, 10), 100, 100, 32)


def test_a_person_s_square_is_on_the_longer_side() -> None:
    assert square_around((10, 20, 40, 120)) == (-25, 20, 75, 120)
    assert square_around((10, 20, 40, 120), 1.5) == (-50, -5, 100, 145)
    with pytest.raises(InvalidParameter, match="left before its right"):
        square_around((10, 20, 5, 120))

"""Boxes become whole pixels of the image, and none beyond it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from offshelf.core.boxes import whole_pixels
from offshelf.engine.regions import cut
from offshelf.errors import InvalidImage

PIXELS = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
IMAGE = Image.fromarray(PIXELS)


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        ((2, 1, 5, 4), PIXELS[1:4, 2:5]),
        ((2.9, 1.5, 4.1, 3.0), PIXELS[1:3, 2:5]),  # every pixel that it touches
        ((-2.5, -1, 3, 2), PIXELS[:2, :3]),  # it ends where the image does
        ((6, 4, 100, 100), PIXELS[4:, 6:]),
        (None, PIXELS),
    ],
)
def test_a_box_is_the_pixels_it_touches(
    box: tuple[float, float, float, float] | None, shown: np.ndarray
) -> None:
    np.testing.assert_array_equal(np.asarray(cut(IMAGE, box)), shown)


@pytest.mark.parametrize("box", [(8, 0, 9, 5), (-3, 0, 0, 5), (0, 6, 5, 9), (0, -4, 5, -1)])
def test_a_box_outside_the_image_is_told(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InvalidImage, match="lies outside the image of 8 x 6 pixels"):
        cut(IMAGE, box)


coordinate = st.floats(-50, 50)


@given(coordinate, coordinate, st.floats(0.01, 60), st.floats(0.01, 60))
def test_pixels_lie_inside_and_cover_what_the_box_shows(
    left: float, top: float, width: float, height: float
) -> None:
    found = whole_pixels((left, top, left + width, top + height), 20, 30)
    touched = [
        (x, y)
        for x in range(20)
        for y in range(30)
        if x < left + width and x + 1 > left and y < top + height and y + 1 > top
    ]
    if found is None:
        assert not touched
        return
    assert 0 <= found[0] < found[2] <= 20
    assert 0 <= found[1] < found[3] <= 30
    assert len(touched) == (found[2] - found[0]) * (found[3] - found[1])

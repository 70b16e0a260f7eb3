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


@given(SIDES, SIDES, st.sampled_from(["five_crop", "ten_crop", "razavian"]))
def test_crops_lie_in_the_image_whatever_its_shape(width: int, height: int, text: str) -> None:
    for place in places(View.parse(text), PRESET, width, height):
        inside(place.crop, place.size)
        if place.source is not None:
            inside(place.source, (width, height))


def inside(box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    left, top, right, bottom = box
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_razavians_crops_have_four_ninths_of_the_area(width: int, height: int) -> None:
    plain = places(View.parse("razavian:20"), PRESET, width, height)[:8]
    boxes = [place.source for place in plain if place.source is not None]
    assert len(boxes) == 5
    for left, top, right, bottom in boxes:
        assert abs((right - left) - width * 2 / 3) <= 1 / 3 + 1e-9
        assert abs((bottom - top) - height * 2 / 3) <= 1 / 3 + 1e-9
    assert [place.degrees for place in plain] == [0, 0, 0, 0, 0, 0, 20, -20]


def test_mirrored_copies_follow_the_inputs_of_their_size() -> None:
    crops = places(View.parse("multi_scale:256,300+mirror"), PRESET, 500, 400)
    assert [(place.size, place.mirrored) for place in crops] == [
        ((320, 256), False), ((375, 300), False), ((320, 256), True), ((375, 300), True),
    ]  # fmt: skip
    whole = places(View.parse("dense:256,300+mirror"), PRESET, 500, 400)
    assert [(place.size, place.mirrored) for place in whole] == [
        ((320, 256), False), ((320, 256), True), ((375, 300), False), ((375, 300), True),
    ]  # fmt: skip
    assert all(place.crop == (0, 0, *place.size) for place in whole)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.windows import LAMBDAS, Pyramid, Strided, canonical_windows, parse_windows
from offshelf.errors import InvalidParameter

SIDES = st.integers(1, 700)


@given(SIDES, SIDES, st.sampled_from([0.0, 0.3, 0.5, 0.65, 0.8]))
def test_a_pyramid_covers_the_image_with_the_overlap_that_was_asked_for(
    width: int, height: int, overlap: float
) -> None:
    for scale in (1.0, 1.3, 4.0):
        windows = Pyramid((scale,), overlap).windows(width, height)
        side = max(1, round(min(width, height) / scale))
        assert (windows[:, 2:] - windows[:, :2] == side).all()
        for axis, length in ((0, width), (1, height)):
            starts = np.unique(windows[:, axis])
            assert starts[0] == 0
            assert starts[-1] == length - side
            gaps = np.diff(starts)
            assert (gaps >= 1).all()
            # At least the overlap that was asked for, or the next pixel.
            assert (gaps <= max(1, side * (1 - overlap))).all()
            assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
        assert len(windows) == len({tuple(window) for window in windows.tolist()})


def test_counts_are_the_paper_s() -> None:
    """275 windows overlap by half in 500 x 375 pixels; the paper's "around 500" needs more."""
    assert len(Pyramid().windows(500, 375)) == 275
    assert len(Pyramid(overlap=0.65).windows(500, 375)) == 496
    first = Pyramid().windows(500, 375)[:2]
    np.testing.assert_array_equal(first, [[0, 0, 375, 375], [125, 0, 500, 375]])


def test_a_pyramid_is_its_scales_one_after_the_other() -> None:
    parts = [Pyramid((scale,)).windows(320, 200) for scale in LAMBDAS]
    np.testing.assert_array_equal(Pyramid().windows(320, 200), np.concatenate(parts))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70), st.integers(1, 40))
def test_strided_windows_are_a_brute_force_s(
    width: int, height: int, side: int, stride: int
) -> None:
    found = Strided(side, stride).windows(width, height).tolist()
    side = min(side, width, height)
    expected = [
        [left, top, left + side, top + side]
        for top in range(height - side + 1)
        for left in range(width - side + 1)
        if (top % stride == 0 or top == height - side)
        and (left % stride == 0 or left == width - side)
    ]
    assert found == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pyramid(()),
        lambda: Pyramid((0.5,)),
        lambda: Pyramid(overlap=1.0),
        lambda: Pyramid(overlap=-0.1),
        lambda: Pyramid((float("nan"),)),
        lambda: Strided(0, 1),
        lambda: Strided(1, 0),
    ],
)
def test_what_makes_no_windows_is_refused(make: object) -> None:
    with pytest.raises(InvalidParameter, match=r"from|more"):
        make()  # type: ignore[operator]


SCALES = st.decimals(1, 32, places=2).map(float)


@given(
    st.one_of(
        st.builds(
            Pyramid,
            st.lists(SCALES, min_size=1, max_size=9).map(tuple),
            st.decimals(0, "0.95", places=3).map(float),
        ),
        st.builds(Pyramid, st.just(LAMBDAS), st.just(0.65)),
        st.builds(Strided, st.integers(1, 99999), st.integers(1, 99999)),
    )
)
def test_the_text_of_windows_is_read_back(windows: Pyramid | Strided) -> None:
    assert parse_windows(str(windows)) == windows
    assert canonical_windows(str(windows)) == str(windows)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("pyramid", "pyramid"),
        ("pyramid;overlap=0.50", "pyramid"),
        ("pyramid:1.0,1.30,2;overlap=0.65", "pyramid:1,1.3,2;overlap=0.65"),
        ("pyramid:1,1.3,1.6,2,2.4,2.8,3.2,3.6,4", "pyramid"),
        ("stride:224,0112", "stride:224,112"),
    ],
)
def test_windows_have_one_text(text: str, canonical: str) -> None:
    assert canonical_windows(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pyramids",
        "pyramid:",
        "pyramid:0.5",
        "pyramid;overlap=0.96",
        "stride:10",
        "stride:0,1",
        "stride:8,8;overlap=0",
        "pyramid:" + ",".join(["2"] * 33),
    ],
)
def test_what_are_no_windows_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_windows(text)

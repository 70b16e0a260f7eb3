from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.adaptation.labelling import BACKGROUND, LEFT_OUT, Rule
from offshelf.errors import InvalidParameter

Corners = tuple[int, int, int, int]


def boxes_in(side: int) -> st.SearchStrategy[Corners]:
    low = st.integers(0, side - 1)
    return st.tuples(low, low, st.integers(1, side), st.integers(1, side)).map(
        lambda b: (b[0], b[1], min(side, b[0] + b[2]), min(side, b[1] + b[3]))
    )


def by_pixels(window: Corners, objects: list[tuple[Corners, int]], side: int) -> int:
    """The rule in so many words, by counting pixels."""

    def mask(box: Corners) -> np.ndarray:
        grid = np.zeros((side, side), bool)
        grid[box[1] : box[3], box[0] : box[2]] = True
        return grid

    shown = mask(window)
    found = set()
    for box, name in objects:
        thing = mask(box)
        both = int((shown & thing).sum())
        if both and 10 * both >= 2 * shown.sum() and 10 * both >= 6 * thing.sum():
            found.add(name)
    if len(found) > 1:
        return LEFT_OUT
    return found.pop() if found else BACKGROUND


@given(
    st.lists(boxes_in(24), min_size=1, max_size=6),
    st.lists(st.tuples(boxes_in(24), st.integers(0, 3)), max_size=5),
)
def test_labels_are_those_of_counted_pixels(
    windows: list[Corners], objects: list[tuple[Corners, int]]
) -> None:
    found = Rule().labels(windows, [box for box, _ in objects], [name for _, name in objects])
    assert found.tolist() == [by_pixels(window, objects, 24) for window in windows]


def test_both_fractions_count_when_they_are_met_exactly() -> None:
    window = [(0, 0, 10, 10)]
    assert Rule().labels(window, [(0, 0, 4, 5)], [2]).tolist() == [2]  # a fifth of the window
    assert Rule().labels(window, [(0, 0, 4, 4)], [2]).tolist() == [BACKGROUND]
    assert Rule().labels(window, [(4, 0, 14, 10)], [1]).tolist() == [1]  # 6 of 10 columns
    assert Rule().labels(window, [(5, 0, 15, 10)], [1]).tolist() == [BACKGROUND]


def test_two_objects_of_a_class_are_one_label_and_of_two_classes_none() -> None:
    window, halves = [(0, 0, 10, 10)], [(0, 0, 5, 10), (5, 0, 10, 10)]
    assert Rule().labels(window, halves, [3, 3]).tolist() == [3]
    assert Rule().labels(window, halves, [3, 0]).tolist() == [LEFT_OUT]


def test_a_tenth_of_the_background_is_kept_and_every_object() -> None:
    labels = np.full(20_000, BACKGROUND)
    labels[:50], labels[50:90] = 4, LEFT_OUT
    kept = Rule().kept(labels, np.random.default_rng(0))
    assert kept[:50].tolist() == list(range(50))
    assert (labels[kept] != LEFT_OUT).all()
    assert abs(len(kept) - 50 - 1991) < 3 * np.sqrt(1991 * 0.9)
    np.testing.assert_array_equal(kept, Rule().kept(labels, np.random.default_rng(0)))
    assert Rule(background=0).kept(labels, np.random.default_rng(0)).tolist() == list(range(50))


def test_what_is_no_box_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="left before right"):
        Rule().labels([(5, 0, 5, 9)], [], [])
    with pytest.raises(InvalidParameter, match="a class from 0 for each"):
        Rule().labels([(0, 0, 5, 9)], [(0, 0, 1, 1)], [])
    with pytest.raises(InvalidParameter, match="of_object is a fraction"):
        Rule(of_object=60)

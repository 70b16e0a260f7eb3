"""Plots: what is drawn where, for any data, and that text from outside stays text."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.api.report import confusions, plots
from offshelf.api.report.svg import Axis, ticks
from offshelf.schemas.reports import Bin, Reliability

if TYPE_CHECKING:
    from markupsafe import Markup
    from numpy.typing import NDArray

shares = st.floats(0, 1)


def drawn(markup: Markup) -> ET.Element:
    return ET.fromstring(str(markup))


def of_class(root: ET.Element, css: str) -> list[ET.Element]:
    return [element for element in root.iter() if css in element.get("class", "").split()]


def number(element: ET.Element, name: str) -> float:
    return float(element.attrib[name])


@given(st.floats(-100, 100), st.floats(0.01, 200), st.integers(2, 12))
def test_ticks_are_few_round_and_inside(low: float, width: float, most: int) -> None:
    found = ticks(low, low + width, most)
    assert len(found) <= most
    assert all(low - 1e-6 <= value <= low + width + 1e-6 for value in found)
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) <= 1
    for step in steps:
        assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 2.5, 5)


def test_an_axis_puts_its_ends_at_its_ends() -> None:
    linear, log = Axis(2, 6, 10, 50), Axis(0.01, 100, 300, 100, log=True)
    assert [linear.at(value) for value in (2, 3, 6)] == [10, 20, 50]
    assert [log.at(value) for value in (0.01, 1, 100)] == pytest.approx([300, 200, 100])


@given(
    st.lists(st.tuples(st.integers(1, 10**6), shares, st.floats(0, 0.5)), min_size=1, max_size=9),
    shares,
)
def test_all_of_a_curve_is_inside_its_frame(
    rows: list[tuple[int, float, float]], level: float
) -> None:
    points = [plots.Point(x, mean, spread, (mean,)) for x, mean, spread in sorted(rows)]
    root = drawn(plots.curve(points, "t", ("x", "y"), level=(level, "all"), at_points=True))
    dots = of_class(root, "dot")
    assert len(dots) == len(points)
    for element in (*dots, *of_class(root, "faint")):
        assert plots.LEFT <= number(element, "cx") <= plots.WIDTH - plots.RIGHT
        assert plots.TOP <= number(element, "cy") <= plots.HEIGHT - plots.BOTTOM
    (line,) = of_class(root, "level")
    assert plots.TOP <= number(line, "y1") <= plots.HEIGHT - plots.BOTTOM
    # The higher the figure, the higher the dot.
    order = sorted(range(len(points)), key=lambda n: points[n].mean)
    heights = [number(dots[n], "cy") for n in order]
    assert heights == sorted(heights, reverse=True)


def test_the_chosen_point_has_a_ring() -> None:
    points = [plots.Point(10.0**n, 0.5 + n / 10) for n in range(-2, 3)]
    root = drawn(plots.curve(points, "t", ("C", "y"), chosen=0.1))
    (ring,) = of_class(root, "ring")
    dot = of_class(root, "dot")[1]
    assert (ring.attrib["cx"], ring.attrib["cy"]) == (dot.attrib["cx"], dot.attrib["cy"])
    labels = [text.text for text in of_class(root, "tick")]
    assert {"0.01", "0.1", "1", "10", "100"} <= set(labels)


def test_bars_of_the_reliability_diagram_are_as_high_as_the_accuracy() -> None:
    bins = [
        Bin(low=0.0, high=0.5, count=3, confidence=0.4, accuracy=0.5),
        Bin(low=0.5, high=1.0, count=0, confidence=None, accuracy=None),
    ]
    root = drawn(plots.reliability_diagram(Reliability(bins=bins, ece=0.1), "c", "a"))
    (bar,) = of_class(root, "right")
    assert number(bar, "height") == plots.SQUARE / 2
    (gap,) = of_class(root, "gap")
    assert number(gap, "height") == pytest.approx(plots.SQUARE / 10, abs=0.01)
    assert [number(row, "height") for row in of_class(root, "count")] == [plots.HISTOGRAM, 0]


def matrix(classes: int, filled: float, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((classes, classes)) < filled, rng.integers(1, 9, (classes,) * 2), 0)


@pytest.mark.parametrize(("classes", "filled"), [(2, 1.0), (40, 0.3), (78, 0.1), (100, 0.9)])
def test_every_filled_cell_is_drawn_once_and_no_other(classes: int, filled: float) -> None:
    counts = matrix(classes, filled)
    root = drawn(confusions.heat_map(counts, [f"c{n}" for n in range(classes)]))
    cells = {"right": 0, "wrong": 0}
    for css in cells:
        for element in of_class(root, css):
            path = element.get("d")
            cells[css] += 1 if path is None else len(re.findall("M", path))
    right = int(np.count_nonzero(np.diag(counts)))
    assert cells == {"right": right, "wrong": int(np.count_nonzero(counts)) - right}


def test_names_are_labels_while_there_is_room_and_escaped() -> None:
    names = ["<b>&", '"quoted"', "a name that is much too long for a label"]
    markup = confusions.heat_map(matrix(3, 1.0), names)
    root = drawn(markup)
    labels = [element.text for element in of_class(root, "tick")]
    assert labels.count("<b>&") == labels.count('"quoted"') == 2
    assert labels.count("a name that is much\u2026") == 2
    assert "<b>" not in str(markup)
    many = drawn(confusions.heat_map(matrix(100, 0.1), ["x"] * 100))
    assert {element.text for element in of_class(many, "tick")} == {
        str(n) for n in range(10, 101, 10)
    }


@given(st.integers(2, 6), st.integers(0, 100))
def test_pairs_are_the_most_frequent_confusions(classes: int, seed: int) -> None:
    counts = matrix(classes, 0.6, seed)
    names = [f"c{n}" for n in range(classes)]
    found = confusions.pairs(counts, names, most=5)
    every = [
        (-int(counts[i, j]), -counts[i, j] / counts[i].sum())
        for i in range(classes)
        for j in range(classes)
        if i != j and counts[i, j]
    ]
    told = [(-pair.count, -pair.share) for pair in found]
    np.testing.assert_allclose(told, sorted(every)[:5])
    for pair in found:
        assert counts[names.index(pair.truth), names.index(pair.predicted)] == pair.count

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from offshelf.engine.region_pooling import Grid, nearest_scale, pool_regions

HIGH, WIDE = 9, 12
MAPS = torch.from_numpy(np.random.default_rng(0).normal(size=(5, HIGH, WIDE)).astype(np.float32))


@st.composite
def boxes_on_the_map(draw: st.DrawFn) -> np.ndarray:
    rows = draw(st.integers(1, 6))
    found = []
    for _ in range(rows):
        left, top = draw(st.floats(0, WIDE - 1)), draw(st.floats(0, HIGH - 1))
        found.append([left, top, draw(st.floats(left + 1, WIDE)), draw(st.floats(top + 1, HIGH))])
    return np.array(found)


@given(boxes_on_the_map(), st.integers(1, 3))
def test_means_are_of_the_area(boxes: np.ndarray, cells: int) -> None:
    """Against a map drawn 1000 times finer in both directions, by running sums."""
    found = pool_regions(f"grid:{cells}:avg", MAPS, boxes).view(len(boxes), 5, cells, cells)
    maps = MAPS.double().numpy()
    sums = np.zeros((5, HIGH + 1, WIDE + 1))
    sums[:, 1:, 1:] = maps.cumsum(1).cumsum(2)

    def below(x: float, y: float) -> np.ndarray:
        """The integral over [0, x] x [0, y]: linear between the units' edges in each direction."""
        column, row = min(int(x), WIDE - 1), min(int(y), HIGH - 1)
        a, b = x - column, y - row
        corner = sums[:, row : row + 2, column : column + 2]
        return np.array([1 - b, b]) @ corner @ np.array([1 - a, a])

    for number, (left, top, right, bottom) in enumerate(boxes):
        xs, ys = np.linspace(left, right, cells + 1), np.linspace(top, bottom, cells + 1)
        for i in range(cells):
            for j in range(cells):
                x0, x1, y0, y1 = xs[j], xs[j + 1], ys[i], ys[i + 1]
                total = below(x1, y1) - below(x0, y1) - below(x1, y0) + below(x0, y0)
                expected = total / ((x1 - x0) * (y1 - y0))
                np.testing.assert_allclose(found[number, :, i, j], expected, atol=2e-5)


@given(boxes_on_the_map(), st.integers(1, 3))
def test_maxima_are_adaptive_poolings_of_the_units_that_are_touched(
    boxes: np.ndarray, cells: int
) -> None:
    found = pool_regions(f"pyramid:{cells},{cells + 1}", MAPS, boxes)
    for row, (left, top, right, bottom) in zip(found, boxes, strict=True):
        part = MAPS[:, int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
        levels = [F.adaptive_max_pool2d(part, n).flatten() for n in (cells, cells + 1)]
        torch.testing.assert_close(row, torch.cat(levels))


def test_align_reads_between_the_units() -> None:
    """Where a map rises evenly, what is read is where it was read."""
    x, y = torch.meshgrid(torch.arange(WIDE) + 0.5, torch.arange(HIGH) + 0.5, indexing="xy")
    box = np.array([[2.0, 1.0, 8.0, 7.0]])
    found = pool_regions("align:3", torch.stack([x, y]), box).view(2, 3, 3)
    torch.testing.assert_close(found[0], torch.tensor([[3.0, 5.0, 7.0]] * 3))
    torch.testing.assert_close(found[1], torch.tensor([[2.0, 4.0, 6.0]] * 3).T)


def test_a_box_lies_on_the_map_where_its_pixels_are() -> None:
    """Units of a stride of 16 whose first one has its centre on pixel 7: they cover 16 pixels."""
    grid = Grid(16, 7.5)
    units = grid.units(np.array([[0.0, 16.0, 32.0, 48.0]]), (1, 1), (10, 10))
    np.testing.assert_allclose(units, [[0, 1, 2, 3]])
    zoomed = grid.units(np.array([[0.0, 8.0, 64.0, 24.0]]), (0.5, 2.0), (10, 10))
    np.testing.assert_allclose(zoomed, units)


def test_small_and_outer_boxes_take_a_unit() -> None:
    grid = Grid(16, 7.5)
    boxes = np.array([[33.0, 33, 35, 35], [-50, -50, -40, -40], [500, 0, 900, 10]])
    units = grid.units(boxes, (1, 1), (10, 8))
    np.testing.assert_allclose(units[:, 2:] - units[:, :2], 1)
    assert units[0] == pytest.approx([1.625, 1.625, 2.625, 2.625])
    assert units[1] == pytest.approx([0, 0, 1, 1])
    assert units[2, [0, 2]] == pytest.approx([9, 10])


def test_a_box_is_read_at_the_scale_where_it_is_nearest_to_the_network_s_size() -> None:
    zooms = [(0.8, 0.8), (1.6, 1.6)]
    sizes = np.array([375.0, 250, 190, 140, 90])
    boxes = np.stack([np.zeros(5), np.zeros(5), sizes, sizes], axis=1)
    # Half-way between, on a log scale, is 224 / sqrt(0.8 * 1.6) = 198 pixels.
    assert nearest_scale(boxes, zooms, 224).tolist() == [0, 0, 1, 1, 1]

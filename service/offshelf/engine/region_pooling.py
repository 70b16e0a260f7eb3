"""Features of boxes from the maps of a whole image: one pass of the network for all boxes.

A box is brought to the map by receptive-field arithmetic: unit i stands for the pixels around its
centre, at `offset + i * stride`. Means are of the area: a unit that a box covers in part counts in
part. Maxima are those of an adaptive pooling over the units that the box touches (He et al., ECCV
2014, section 2.3; Girshick, ICCV 2015); `align` is RoIAlign (He et al., ICCV 2017, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torchvision.ops import roi_align, roi_pool

from offshelf.core.spec import Pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Boxes = NDArray[np.float64]

# Points a side in each cell of RoIAlign, as in Mask R-CNN.
SAMPLES: Final = 2


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the units of a map lie in the input that it was made of, in pixels.

    `offset` is the centre of the first unit, counted from the centre of the first pixel.
    """

    stride: float
    offset: float

    def units(self, boxes: Boxes, zoom: tuple[float, float], size: tuple[int, int]) -> Boxes:
        """Boxes (R, 4) of an image in units of a map of `size` (columns, rows).

        Unit i is from i to i + 1. `zoom` is how many pixels of the input one of the image is,
        across and down. What lies beyond the map ends at its edge; a box takes the room of a unit
        at least.
        """
        scale, limit = np.array([*zoom, *zoom]), np.array(size, np.float64)
        found = (boxes * scale - 0.5 - self.offset) / self.stride + 0.5
        middle = np.clip((found[:, :2] + found[:, 2:]) / 2, 0.5, limit - 0.5)
        low = np.clip(found[:, :2], 0, limit)
        high = np.clip(found[:, 2:], 0, limit)
        small = high - low < 1
        low = np.where(small, middle - 0.5, low)
        high = np.where(small, middle + 0.5, high)
        return np.concatenate([low, high], axis=1)


def nearest_scale(
    boxes: Boxes, zooms: Sequence[tuple[float, float]], side: int
) -> NDArray[np.int64]:
    """For each box the number of the scale at which it is nearest to `side` pixels a side."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    sizes = np.sqrt(areas)[:, None] * [math.sqrt(across * down) for across, down in zooms]
    nearest: NDArray[np.int64] = np.abs(np.log(np.maximum(sizes, 1e-9) / side)).argmin(axis=1)
    return nearest


def pool_regions(pooling: str, maps: Tensor, units: Boxes) -> Tensor:
    """One feature (R, C * values) a box (R, 4), in units of the map (C, H, W).

    As with maps of whole images each channel's cells stand together, a pyramid's levels one after
    the other.
    """
    wanted = Pooling.parse(pooling)
    levels = [_level(wanted, cells, maps, units).flatten(1) for cells in wanted.levels]
    return levels[0] if len(levels) == 1 else torch.cat(levels, 1)


def _level(wanted: Pooling, cells: int, maps: Tensor, units: Boxes) -> Tensor:
    """(R, C, cells, cells)."""
    if wanted.kind == "avg":
        return _means(maps, units, cells)
    boxes = units
    if wanted.kind == "max":  # which takes the first and the last unit
        boxes = np.concatenate([np.floor(units[:, :2]), np.ceil(units[:, 2:]) - 1], axis=1)
    rois = torch.from_numpy(np.insert(boxes, 0, 0, axis=1)).to(maps)
    pooled: Tensor
    if wanted.kind == "max":
        pooled = roi_pool(maps[None], rois, cells)
    else:
        pooled = roi_align(maps[None], rois, cells, sampling_ratio=SAMPLES, aligned=True)
    return pooled


def _means(maps: Tensor, units: Boxes, cells: int) -> Tensor:
    """Means over the cells of boxes, (R, C, cells, cells).

    They are weighted sums along x, then along y. Windows share their spans, so there is one sum
    along x for each different span.
    """
    _, high, wide = maps.shape
    spans, which = np.unique(units[:, [0, 2]], axis=0, return_inverse=True)
    across = torch.from_numpy(_shares(spans, wide, cells)).to(maps)  # (S, cells, W)
    down = torch.from_numpy(_shares(units[:, [1, 3]], high, cells)).to(maps)  # (R, cells, H)
    columns = maps.permute(1, 0, 2) @ across.flatten(0, 1).T  # (H, C, S * cells)
    columns = columns.view(high, -1, len(spans), cells).permute(2, 0, 1, 3)  # (S, H, C, cells)
    parts = []
    for span in range(len(spans)):
        rows = np.flatnonzero(which.ravel() == span)
        parts.append((rows, down[rows].flatten(0, 1) @ columns[span].flatten(1)))
    out = maps.new_empty(len(units), cells, maps.shape[0], cells)
    for rows, sums in parts:
        out[rows] = sums.view(len(rows), cells, maps.shape[0], cells)
    return out.permute(0, 2, 1, 3)


def _shares(spans: Boxes, length: int, cells: int) -> NDArray[np.float32]:
    """What part of each cell of a span (n, 2) is over each unit: (n, cells, length), sums of 1."""
    edges = spans[:, :1] + (spans[:, 1:] - spans[:, :1]) * (np.arange(cells + 1) / cells)
    unit = np.arange(length)
    shared = np.minimum(edges[:, 1:, None], unit + 1) - np.maximum(edges[:, :-1, None], unit)
    shared = np.clip(shared, 0, None)
    shares: NDArray[np.float32] = (shared / shared.sum(axis=2, keepdims=True)).astype(np.float32)
    return shares

"""Where sliding windows lie: square windows at several scales, over a regular grid.

A window is four whole numbers of pixels: left, top, right, bottom, the last two outside. All
windows lie in the image, the first at its left and top edge and the last at the right and bottom.
Every set of windows has one canonical text: `pyramid`, `pyramid:1,1.3,2;overlap=0.65`,
`stride:224,112`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

# Oquab et al. (CVPR 2014, section 4.2) say eight scales, and list these nine.
LAMBDAS: Final = (1.0, 1.3, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0)
MAX_LAMBDA: Final = 32.0
MAX_OVERLAP: Final = 0.95
MAX_LAMBDAS: Final = 32
OVERLAP: Final = 0.5

_NUMBER: Final = r"[0-9]{1,2}(?:\.[0-9]{1,4})?"
_PYRAMID: Final = re.compile(
    rf"pyramid(?::(?P<lambdas>{_NUMBER}(?:,{_NUMBER})*))?(?:;overlap=(?P<overlap>{_NUMBER}))?"
)
_STRIDE: Final = re.compile(r"stride:([0-9]{1,5}),([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Squares of side min(width, height) / lambda, neighbours overlapping by `overlap` at least.

    The paper's overlap is "at least 50 %", and its windows "around 500 an image": the sparsest grid
    that overlaps by half has 275 in an image of 500 x 375, and an overlap of 0.65 gives 496.
    """

    lambdas: tuple[float, ...] = LAMBDAS
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        fits = all(1 <= one <= MAX_LAMBDA for one in self.lambdas)
        if not fits or not 1 <= len(self.lambdas) <= MAX_LAMBDAS:
            raise InvalidParameter(
                f"lambdas are up to {MAX_LAMBDAS} numbers from 1 to {MAX_LAMBDA:g}, "
                f"not {list(self.lambdas)}"
            )
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise InvalidParameter(
                f"overlap is a fraction from 0 to {MAX_OVERLAP}, not {self.overlap}"
            )

    def __str__(self) -> str:
        scales = "" if self.lambdas == LAMBDAS else ":" + ",".join(f"{x:g}" for x in self.lambdas)
        return f"pyramid{scales}" + (f";overlap={self.overlap:g}" * (self.overlap != OVERLAP))

    def windows(self, width: int, height: int) -> Ints:
        """The windows (M, 4) of an image: by scale, the largest first, then row by row."""
        return np.concatenate([self._at(scale, width, height) for scale in self.lambdas])

    def _at(self, scale: float, width: int, height: int) -> Ints:
        side = max(1, round(min(width, height) / scale))
        stride = max(1, math.floor(side * (1 - self.overlap)))
        return _squares(side, _spread(width - side, stride), _spread(height - side, stride))


@dataclass(frozen=True, slots=True)
class Strided:
    """Squares of one side in pixels, `stride` pixels apart.

    Where the stride does not end at the edge the last window lies at the edge, closer to the one
    before: no part of the image is left out. A side beyond the image's short one is cut to it.
    """

    side: int
    stride: int

    def __post_init__(self) -> None:
        if self.side < 1 or self.stride < 1:
            raise InvalidParameter(
                f"side and stride are 1 pixel or more, not {self.side} and {self.stride}"
            )

    def __str__(self) -> str:
        return f"stride:{self.side},{self.stride}"

    def windows(self, width: int, height: int) -> Ints:
        """The windows (M, 4) of an image, row by row."""
        side = min(self.side, width, height)
        return _squares(side, *(self._starts(length - side) for length in (width, height)))

    def _starts(self, last: int) -> Ints:
        starts = np.arange(0, last + 1, self.stride, dtype=np.int64)
        return starts if starts[-1] == last else np.append(starts, last)


Sliding: TypeAlias = Pyramid | Strided


def parse_windows(text: str) -> Sliding:
    """Read a set of windows; InvalidParameter says what would be right."""
    if found := _STRIDE.fullmatch(text):
        return Strided(int(found[1]), int(found[2]))
    if found := _PYRAMID.fullmatch(text):
        given, overlap = found["lambdas"], found["overlap"]
        lambdas = tuple(map(float, given.split(","))) if given else LAMBDAS
        return Pyramid(lambdas, float(overlap) if overlap else OVERLAP)
    raise InvalidParameter(
        f"no windows {text!r}: there are `pyramid`, which may be followed by scales and an overlap "
        "as in pyramid:1,1.3,2;overlap=0.65, and stride:SIDE,STEP in pixels"
    )


def canonical_windows(text: str) -> str:
    """The one text for a set of windows; raises as `parse_windows`."""
    return str(parse_windows(text))


def _spread(last: int, stride: int) -> Ints:
    """Evenly spread whole numbers from 0 to `last`, as few as are at most `stride` apart."""
    steps = -(-last // stride)
    return np.arange(steps + 1, dtype=np.int64) * last // max(steps, 1)


def _squares(side: int, lefts: Ints, tops: Ints) -> Ints:
    """The windows (M, 4) at every left and top, row by row."""
    top, left = (grid.ravel() for grid in np.meshgrid(tops, lefts, indexing="ij"))
    return np.stack([left, top, left + side, top + side], axis=1)

"""The lists of C that the literature searches.

Sources: `kornblith` is the sweep of Kornblith et al. (2019), SimCLR and BYOL (appendix D);
`vissl` that of VISSL's VOC07 SVM; `clip` the grid of Radford et al. (2021), appendix A.3, whose
search starts with seven values and halves the interval around the peak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLIP_A_DECADE: Final = 8
CLIP_FIRST: Final = 16  # steps of the grid between the first seven values
PRESETS: Final = ("kornblith", "vissl", "clip")


def values(preset: str) -> tuple[float, ...]:
    """All Cs of a preset, ascending; of `clip` those that it starts with."""
    lists = {
        "kornblith": tuple(np.logspace(-6, 5, 45).tolist()),
        "vissl": (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0),
        "clip": tuple(clip_grid(index) for index in range(0, 97, CLIP_FIRST)),
    }
    if preset not in lists:
        raise InvalidParameter(f"no list of C named {preset!r}; there are: {', '.join(PRESETS)}")
    return lists[preset]


def clip_grid(index: int) -> float:
    """The value of number `index` (0..96): eight a decade from 1e-6 to 1e6."""
    return float(10.0 ** (index / CLIP_A_DECADE - 6))


def refine(run: Callable[[Sequence[float]], None], best: Callable[[], float]) -> None:
    """The search of `clip`: `run` fits some Cs, `best` tells the best so far."""
    run(values("clip"))
    step = CLIP_FIRST
    while step > 1:
        step //= 2
        peak = round((np.log10(best()) + 6) * CLIP_A_DECADE)
        run([clip_grid(index) for index in (peak - step, peak + step) if 0 <= index <= 96])

"""What a benchmark prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure. `value` in the unit that `figure` says."""

    what: str
    value: float
    figure: str

"""Features that are known beforehand: of a known image, under known weights, as a few numbers.

`goldens.json` holds them by backbone and weights; `tools/goldens.py` writes it.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE: Final = Path(__file__).with_name("goldens.json")
NUMBERS: Final = 16
# Of a projection of a vector of length 1: what another processor's rounding may move.
TOLERANCE: Final = 1e-4
TAP: Final = "penultimate"


@dataclass(frozen=True, slots=True)
class Golden:
    """The projection of the canary's features under weights of this digest."""

    digest: str
    numbers: tuple[float, ...]


def key(backbone: str, weights: str | None) -> str:
    """What a golden goes by in the file: the weights as asked for, `own` for the card's."""
    return f"{backbone} {weights or 'own'}"


def golden(backbone: str, weights: str | None) -> Golden | None:
    """The golden of a backbone under these weights, where one is known."""
    known = _all().get(key(backbone, weights))
    return None if known is None else Golden(known["digest"], tuple(known["numbers"]))


def project(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """A feature, scaled to length 1, on fixed waves: (16,) numbers that nearly any change moves."""
    flat = features.ravel().astype(np.float64)
    length = np.linalg.norm(flat)
    waves = np.cos(np.outer(np.arange(1, NUMBERS + 1), np.arange(flat.size)))
    projected: NDArray[np.float64] = waves @ (flat / length if length else flat)
    return projected


@functools.cache
def _all() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return known

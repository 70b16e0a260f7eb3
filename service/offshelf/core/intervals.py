"""How far a share of few images can be believed."""

from __future__ import annotations

from math import sqrt
from typing import Final

# The normal distribution's 97.5 % quantile.
Z_95: Final = 1.959963984540054


def wilson(hits: int, images: int) -> tuple[float, float]:
    """The 95 % interval of a share, `hits` of `images` > 0 (Wilson 1927): inside [0, 1] always."""
    share, z2 = hits / images, Z_95**2
    middle = share + z2 / (2 * images)
    half = Z_95 * sqrt(share * (1 - share) / images + z2 / (4 * images**2))
    scale = 1 + z2 / images
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)

"""The smallest real image, as many different ones as a test needs."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image


def _dot() -> bytes:
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "PNG")
    return out.getvalue()


DOT: Final = _dot()


def picture(which: object = "") -> bytes:
    """A PNG of one pixel, with other bytes for each `which`."""
    return DOT + str(which).encode()

"""Made-up pictures with structure at several scales, the same on every machine."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(seed: int, width: int | None = None, height: int | None = None) -> Image.Image:
    """Coarse colour patches under finer grain; the size is drawn where it is not given."""
    random = np.random.default_rng(seed)
    size = (width or int(random.integers(180, 420)), height or int(random.integers(180, 420)))
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    fine = Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    bicubic = Image.Resampling.BICUBIC
    return Image.blend(coarse.resize(size, bicubic), fine.resize(size, bicubic), 0.35)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int) -> bytes:
    """A made-up picture as a PNG file."""
    return encode(picture(seed))

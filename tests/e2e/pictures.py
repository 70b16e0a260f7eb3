"""Images for end-to-end tests: scikit-learn's digits and photographs, written as files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

if TYPE_CHECKING:
    from pathlib import Path


def write_digits(folder: Path, per_class: int, classes: int = 10) -> list[Path]:
    """The first `per_class` handwritten digits of each class as PNG files in class folders."""
    digits = load_digits()
    written = []
    for label in range(classes):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        for index in np.flatnonzero(digits.target == label)[:per_class]:
            path = folder / str(label) / f"{index:04d}.png"
            pixels = np.uint8(digits.images[index] * (255 / 16))
            Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)
            written.append(path)
    return written


def photographs() -> list[Image.Image]:
    """Two photographs of 640 x 427 pixels."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def as_jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """JPEG bytes of an image."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def varied(count: int, seed: int = 0) -> list[bytes]:
    """JPEGs of different sizes and shapes, cut from the photographs."""
    random = np.random.default_rng(seed)
    sources = photographs()
    jpegs = []
    for index in range(count):
        source = sources[index % len(sources)]
        width, height = int(random.integers(60, 640)), int(random.integers(60, 427))
        left = int(random.integers(0, source.width - width + 1))
        top = int(random.integers(0, source.height - height + 1))
        jpegs.append(as_jpeg(source.crop((left, top, left + width, top + height))))
    return jpegs

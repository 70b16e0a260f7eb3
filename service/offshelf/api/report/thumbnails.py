"""Small pictures of samples, as data URLs: a page that holds them needs no other file."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image

from offshelf.core.boxes import whole_pixels
from offshelf.engine.decode import decode
from offshelf.errors import OffshelfError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from offshelf.datasets.reading import ImageReader
    from offshelf.engine.decode import Limits
    from offshelf.schemas.datasets import Dataset, DatasetItem

SIDE: Final = 160
QUALITY: Final = 80
# Pillow decodes outside Python's lock; the largest images are 200 MB each once decoded.
THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data URL with its size in pixels; or, without one, why there is none."""

    url: str = ""
    width: int = SIDE
    height: int = SIDE
    missing: str = ""


def thumbnails(
    images: ImageReader, dataset: Dataset | None, numbers: Iterable[int], limits: Limits
) -> Mapping[int, Thumbnail]:
    """The picture of each sample, by its number. One that cannot be had is no error.

    Of a sample that is a region of its image, the region.
    """
    wanted = sorted(set(numbers))
    if dataset is None:
        return dict.fromkeys(wanted, Thumbnail(missing="the dataset is gone"))
    items = dataset.items

    def one(number: int) -> Thumbnail:
        if number >= len(items):
            return Thumbnail(missing="no such sample")
        return _thumbnail(images, items[number], limits)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="thumbnail") as pool:
        return dict(zip(wanted, pool.map(one, wanted), strict=True))


def _thumbnail(images: ImageReader, item: DatasetItem, limits: Limits) -> Thumbnail:
    try:
        image = decode(images.read(item), limits)
    except OffshelfError as error:
        return Thumbnail(missing=error.public_message)
    region = next((box for box in item.boxes if box is not None), None)
    pixels = None if region is None else whole_pixels(region, *image.size)
    if pixels is not None:
        image = image.crop(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    data = base64.b64encode(out.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{data}", *image.size)

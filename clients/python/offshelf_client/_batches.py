"""How many images go into one request: bounded in number and in bytes, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf_client._images import Encoded, ImageSource, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BATCH_IMAGES: Final = 32
BATCH_BYTES: Final = 32 << 20
CONCURRENCY: Final = 4


def batches(sources: Iterable[ImageSource], batch_size: int) -> Iterator[list[Encoded]]:
    """Read sources lazily into lists of at most `batch_size` images and about 32 MiB."""
    batch: list[Encoded] = []
    size = 0
    for index, source in enumerate(sources):
        image = encode(index, source)
        if batch and (len(batch) >= batch_size or size + len(image.data) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += len(image.data)
    if batch:
        yield batch


def check_limits(batch_size: int, concurrency: int) -> None:
    """Raise ValueError unless both are at least 1."""
    if batch_size < 1 or concurrency < 1:
        raise ValueError("batch_size and concurrency are at least 1")

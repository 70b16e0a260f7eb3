"""The items of a dataset as pages of columns, so that a part of a million of them can be read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, overload

import msgpack

from offshelf.schemas.datasets import DatasetItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# 40 to 100 bytes an item once packed, and some 400 in memory: a page is 0.3 MB, and 1.6 MB.
PAGE_ITEMS: Final = 4096
# What one reader of a dataset keeps; steps of neighbouring shards share a page.
PAGES_KEPT: Final = 3
DIGEST_BYTES: Final = 32
FAST: Final = 1  # digests do not compress, and paths do at any level


def pack(items: Sequence[DatasetItem]) -> bytes:
    """A page: a map of columns as msgpack, deflated. Labels are numbers of a list of names."""
    names = sorted({item.label for item in items})
    number = {name: n for n, name in enumerate(names)}
    columns = {
        "paths": [item.path for item in items],
        "names": names,
        "labels": [number[item.label] for item in items],
        "sha256": b"".join(bytes.fromhex(item.sha256) for item in items),
        "bytes": [item.bytes for item in items],
        "boxes": [item.boxes for item in items] if any(item.boxes for item in items) else None,
        "sources": [i.source for i in items] if any(item.source for item in items) else None,
    }
    return zlib.compress(msgpack.packb(columns), FAST)


def unpack(data: bytes) -> list[DatasetItem]:
    """Inverse of `pack`."""
    columns: dict[str, Any] = msgpack.unpackb(zlib.decompress(data))
    count, digests, names = len(columns["paths"]), columns["sha256"].hex(), columns["names"]
    width = 2 * DIGEST_BYTES
    rows = zip(
        columns["paths"],
        (names[number] for number in columns["labels"]),
        (digests[at : at + width] for at in range(0, width * count, width)),
        columns["bytes"],
        columns["boxes"] or ([] for _ in range(count)),
        columns["sources"] or [""] * count,
        strict=True,
    )
    return [
        DatasetItem(path, label, sha256, size, [box and tuple(box) for box in boxes], source)
        for path, label, sha256, size, boxes, source in rows
    ]


def paged(items: Iterable[DatasetItem]) -> Iterator[list[DatasetItem]]:
    """Runs of `PAGE_ITEMS` items; the last one may be shorter."""
    left = iter(items)
    while page := list(islice(left, PAGE_ITEMS)):
        yield page


class StoredItems(Sequence[DatasetItem]):
    """The items of a dataset, of which a few pages at a time are in memory; for many threads.

    `read` gives the items of a page by its number.
    """

    def __init__(
        self, read: Callable[[int], list[DatasetItem]], total: int, page_items: int
    ) -> None:
        self._read = read
        self._total = total
        self._page_items = page_items
        self._page = lru_cache(PAGES_KEPT)(read)

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> DatasetItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[DatasetItem]: ...
    def __getitem__(self, index: int | slice) -> DatasetItem | list[DatasetItem]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._total))]
        number = range(self._total)[index]  # negative ones, and IndexError
        return self._page(number // self._page_items)[number % self._page_items]

    def __iter__(self) -> Iterator[DatasetItem]:
        """All of them; pages that are passed by push nobody's out of memory."""
        for page in range(-(-self._total // self._page_items)):
            yield from self._read(page)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

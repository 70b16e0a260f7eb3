"""One shard of a bulk extraction: images from the store in, one immutable object a tap out."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.datasets.reading import ImageReader
from offshelf.datasets.sources import Sources
from offshelf.errors import ErrorInfo, InvalidImage, RequestError, WorkerError
from offshelf.heads.features import Shard
from offshelf.schemas.base import ErrorBody
from offshelf.store import layout
from offshelf.worker.regions import WHOLE, joined, submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features
    from offshelf.schemas.datasets import Dataset
    from offshelf.schemas.features import FeatureParams
    from offshelf.store.interface import Store
    from offshelf.worker.interface import Extractor
    from offshelf.worker.planning import Pinned
    from offshelf.worker.regions import Parts

# How long a cancellation may go unnoticed.
WATCH_S: Final = 0.25
# No shard takes this long; one that does hangs, and another try is due.
SHARD_TIMEOUT_S: Final = 3_600.0


class ShardExtraction:
    """Computes shards and writes them. `watch`, called all along, may raise to stop it."""

    def __init__(
        self, store: Store, extractor: Extractor, images: ImageReader | None = None
    ) -> None:
        self._store = store
        self._extractor = extractor
        self._images = images or ImageReader(store, Sources())

    def find(self, dataset_id: str, pinned: Pinned, index: int) -> Shard | None:
        """A shard that is there under every fingerprint of the job, or None."""
        keys = [
            layout.shard(dataset_id, fingerprint, index)
            for fingerprint in sorted(set(pinned.fingerprints.values()))
        ]
        if not all(self._store.exists(key) for key in keys):
            return None
        return Shard.unpack(self._store.get(keys[0]))

    def make(
        self,
        dataset: Dataset,
        params: FeatureParams,
        pinned: Pinned,
        index: int,
        watch: Callable[[], None],
    ) -> Shard:
        """Compute a shard in one pass and write it under every fingerprint; one of those."""
        numbers = pinned.numbers(index, len(dataset.items))
        with self._extractor.resolve(params) as plan:
            pinned.hold_to(plan)
            rows, errors = self._rows(plan, dataset, numbers, watch)
        kept = sorted(rows)
        shards = {
            fingerprint: _shard([rows[number][tap] for number in kept], kept, errors)
            for tap, fingerprint in pinned.fingerprints.items()
        }
        for fingerprint, shard in shards.items():
            self._store.put_new(layout.shard(dataset.id, fingerprint, index), shard.pack())
        return next(iter(shards.values()))

    def _rows(
        self, plan: Plan, dataset: Dataset, numbers: range, watch: Callable[[], None]
    ) -> tuple[dict[int, dict[str, Features]], dict[int, ErrorBody]]:
        """The features of some items by number, and the errors of the others."""
        parts: dict[int, Parts] = {}
        try:
            for number in numbers:
                watch()
                item = dataset.items[number]
                try:
                    image = self._images.read(item)
                except InvalidImage as error:  # it has changed since it was registered
                    parts[number] = [_failed(error)]
                    continue
                parts[number] = [
                    submitted(self._extractor, image, plan, box) for box in item.boxes or WHOLE
                ]
            _await(set(_futures(parts)), watch)
        finally:
            for future in _futures(parts):
                future.cancel()
        faults = {number: _fault(futures) for number, futures in parts.items()}
        errors = {
            number: ErrorBody.of(ErrorInfo.of(error))
            for number, error in faults.items()
            if error is not None
        }
        rows = {number: joined(parts[number]) for number in parts if faults[number] is None}
        return rows, errors


def _failed(error: InvalidImage) -> Future[dict[str, Features]]:
    future: Future[dict[str, Features]] = Future()
    future.set_exception(error)
    return future


def _futures(parts: dict[int, Parts]) -> Iterator[Future[dict[str, Features]]]:
    return (future for futures in parts.values() for future in futures if future is not None)


def _fault(parts: Parts) -> BaseException | None:
    """The first error among the regions of an item."""
    faults = (future.exception() for future in parts if future is not None)
    return next((fault for fault in faults if fault is not None), None)


def _await(pending: set[Future[dict[str, Features]]], watch: Callable[[], None]) -> None:
    """Wait for all; raise at once what is neither a value nor the fault of an image."""
    deadline_s = time.monotonic() + SHARD_TIMEOUT_S
    while pending:
        ended, pending = wait(pending, timeout=WATCH_S, return_when=FIRST_EXCEPTION)
        for future in ended:
            error = (
                WorkerError("an image was dropped") if future.cancelled() else future.exception()
            )
            if error is not None and not isinstance(error, RequestError):
                raise error
        watch()
        if time.monotonic() > deadline_s:
            raise WorkerError(f"a shard took longer than {SHARD_TIMEOUT_S:g} s")


def _shard(rows: list[Features], kept: list[int], errors: dict[int, ErrorBody]) -> Shard:
    stacked = np.stack(rows).astype(np.float32, copy=False) if rows else np.zeros(0, np.float32)
    return Shard(stacked, np.array(kept, np.int64), errors)

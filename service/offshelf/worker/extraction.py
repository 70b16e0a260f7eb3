"""One shard of a bulk extraction: images from the store in, one immutable object a tap out."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.core.batching import Lane
from offshelf.datasets.reading import ImageReader
from offshelf.engine.company import Company
from offshelf.errors import ErrorInfo, RequestError, WorkerError
from offshelf.heads.features import Shard
from offshelf.schemas.base import ErrorBody
from offshelf.store import layout
from offshelf.worker.regions import WHOLE, joined, regions_of
from offshelf.worker.watching import WATCH_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features
    from offshelf.schemas.datasets import Dataset
    from offshelf.schemas.features import FeatureParams
    from offshelf.store.interface import Store
    from offshelf.worker.content_cache import Content, ContentCache
    from offshelf.worker.interface import Extractor
    from offshelf.worker.planning import Pinned
    from offshelf.worker.regions import Parts, Region
    from offshelf.worker.reuse import KnownRows

# No shard takes this long; one that does hangs, and another try is due.
SHARD_TIMEOUT_S: Final = 3_600.0
# Network inputs in a batch of a deterministic job. Never a setting: it is part of what makes two
# runs equal. Small enough for the bound on bulk batches with a large network on a few cores.
FIXED_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Made:
    """A shard, and how many of its rows were not computed for it."""

    shard: Shard
    reused: int


@dataclass(frozen=True, slots=True)
class Work:
    """A shard to make: some items of a dataset, of which the rows of a few are known."""

    dataset: Dataset
    params: FeatureParams
    pinned: Pinned
    index: int
    known: KnownRows = field(default_factory=dict)

    @property
    def numbers(self) -> range:
        """The numbers of its items."""
        return self.pinned.numbers(self.index, len(self.dataset.items))


@dataclass(frozen=True, slots=True)
class _Run:
    """The regions of a shard that went to the device, or came from the cache: `hits` of them."""

    regions: Sequence[Region]
    futures: Sequence[Future[dict[str, Features]]]
    hits: Sequence[bool]


class ShardExtraction:
    """Computes shards and writes them. `watch`, called all along, may raise to stop it."""

    def __init__(
        self,
        store: Store,
        extractor: Extractor,
        cache: ContentCache,
        images: ImageReader | None = None,
    ) -> None:
        self._store = store
        self._extractor = extractor
        self._cache = cache
        self._images = images or ImageReader(store)

    def find(self, dataset_id: str, pinned: Pinned, index: int) -> Shard | None:
        """A shard that is there under every tap of the job, or None."""
        keys = [layout.shard(dataset_id, shelf, index) for shelf in sorted(pinned.shelves.values())]
        if not all(self._store.exists(key) for key in keys):
            return None
        return Shard.unpack(self._store.get(keys[0]))

    def make(self, work: Work, watch: Callable[[], None]) -> Made:
        """Compute a shard in one pass and write it under every tap."""
        rows, errors, reused = dict(work.known), {}, len(work.known)
        missing = [number for number in work.numbers if number not in rows]
        if missing:
            with self._extractor.resolve(work.params) as plan:
                work.pinned.hold_to(plan)
                run = self._run(plan, work, regions_of(work.dataset, missing), watch)
            parts = _by_item(work.dataset, missing, run)
            errors = _errors(parts)
            rows |= {number: joined(parts[number]) for number in parts if number not in errors}
            computed = {
                one.number for one, hit in zip(run.regions, run.hits, strict=True) if not hit
            }
            reused = len(rows.keys() - computed)
        return Made(self._written(work, rows, errors), reused)

    def _written(self, work: Work, rows: KnownRows, errors: dict[int, ErrorBody]) -> Shard:
        kept = sorted(rows)
        shards = {
            shelf: _shard([rows[number][tap] for number in kept], kept, errors)
            for tap, shelf in work.pinned.shelves.items()
        }
        for shelf, shard in shards.items():
            self._store.put_new(layout.shard(work.dataset.id, shelf, work.index), shard.pack())
        return next(iter(shards.values()))

    def _run(
        self, plan: Plan, work: Work, regions: Sequence[Region], watch: Callable[[], None]
    ) -> _Run:
        """What the cache has, and all else through the device; every future has ended well or not.

        Fixed batches stay so only where none of their images comes from elsewhere.
        """
        fixed, fingerprints = work.pinned.deterministic, work.pinned.fingerprints
        contents = [region.content for region in regions]
        known = [None] * len(regions) if fixed else self._cache.find(fingerprints, contents)
        companies = _companies(plan, len(regions)) if fixed else [None] * len(regions)
        futures: list[Future[dict[str, Features]]] = []
        try:
            for region, hit, company in zip(regions, known, companies, strict=True):
                watch()
                one = (
                    self._submitted(plan, work.dataset, region, company)
                    if hit is None
                    else _ended(hit)
                )
                futures.append(one)
            _await(set(futures), watch)
        finally:
            for future in futures:
                future.cancel()
        run = _Run(regions, futures, [hit is not None for hit in known])
        if not fixed:
            self._cache.keep(fingerprints, _computed(run))
        return run

    def _submitted(
        self, plan: Plan, dataset: Dataset, region: Region, company: Company | None
    ) -> Future[dict[str, Features]]:
        # Read in its turn, and by those who decode: a company then hears of an image that cannot
        # be read, and the images of a shard are not in memory all at once.
        image = partial(self._images.read, dataset.items[region.number])
        return self._extractor.submit(image, plan, Lane.BULK, box=region.box, company=company)


def _companies(plan: Plan, total: int) -> list[Company]:
    """Who runs with whom: the regions in their order, so many at a time."""
    size = max(1, FIXED_BATCH // plan.view.inputs)
    companies = [Company(min(size, total - first)) for first in range(0, total, size)]
    return [companies[place // size] for place in range(total)]


def _ended(features: dict[str, Features]) -> Future[dict[str, Features]]:
    future: Future[dict[str, Features]] = Future()
    future.set_result(features)
    return future


def _computed(run: _Run) -> list[tuple[Content, dict[str, Features]]]:
    """The content and the features of what went well on the device."""
    return [
        (region.content, future.result())
        for region, future, hit in zip(run.regions, run.futures, run.hits, strict=True)
        if not hit and future.exception() is None
    ]


def _by_item(dataset: Dataset, numbers: Sequence[int], run: _Run) -> dict[int, Parts]:
    """The regions of each item in its order, with None for those that it lacks."""
    futures = iter(run.futures)
    return {
        number: [
            None if box is None else next(futures) for box in dataset.items[number].boxes or WHOLE
        ]
        for number in numbers
    }


def _errors(parts: dict[int, Parts]) -> dict[int, ErrorBody]:
    """The first error among the regions of each item that has one."""
    faults = {number: _fault(futures) for number, futures in parts.items()}
    return {
        number: ErrorBody.of(ErrorInfo.of(fault))
        for number, fault in faults.items()
        if fault is not None
    }


def _fault(parts: Parts) -> BaseException | None:
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

"""What is done for the features of a dataset: cut it into shards, make them, put them together."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from offshelf.core.jobs import JobState
from offshelf.errors import UnknownName
from offshelf.heads.features import load_feature_set
from offshelf.queue.tasks import Step
from offshelf.schemas.feature_sets import FEATURE_SET, FeatureSetRequest
from offshelf.store import layout
from offshelf.worker.committing import commit_feature_set
from offshelf.worker.extraction import ShardExtraction, Work
from offshelf.worker.planning import (
    Pinned,
    check_request,
    feature_set_id_of,
    params_of,
    request_of,
)
from offshelf.worker.reuse import Donors, find_donors
from offshelf.worker.watching import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.datasets.reading import ImageReader
    from offshelf.queue.interface import Jobs, StepQueue
    from offshelf.schemas.datasets import Dataset
    from offshelf.store.interface import Store
    from offshelf.worker.content_cache import ContentCache
    from offshelf.worker.interface import Extractor
    from offshelf.worker.known_datasets import KnownDatasets
    from offshelf.worker.metrics import WorkerMetrics

# For each item of a dataset where its row is: 12 bytes.
DONORS_KEPT: Final = 4


class FeatureSteps:
    """The steps that every job over a dataset begins with, and how a feature set ends.

    `clock` gives Unix time.
    """

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        extractor: Extractor,
        queue: StepQueue,
        metrics: WorkerMetrics,
        datasets: KnownDatasets,
        cache: ContentCache,
        images: ImageReader,
        shard_images: int,
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._extractor = extractor
        self._queue = queue
        self._metrics = metrics
        self._datasets = datasets
        self._shard_images = shard_images
        self._clock = clock
        self._shards = ShardExtraction(store, extractor, cache, images)
        self._known_donors = lru_cache(DONORS_KEPT)(lambda key: Donors.unpack(store.get(key)))

    def start(self, job: Job) -> None:
        """Check what is asked, pin what it means, and enqueue the shards.

        A feature set that is there already ends the job at once.
        """
        request = request_of(job)
        dataset = self._datasets.dataset(job.owner, request.dataset)
        check_request(dataset, self._datasets.description(dataset), request)
        fixed = isinstance(request, FeatureSetRequest) and request.deterministic
        with self._extractor.resolve(params_of(request)) as plan:
            size = self._shard_size(dataset.id)
            pinned = Pinned.from_plan(plan, size, deterministic=fixed)
        settled = {**asdict(pinned), "sources": self._donors(job, dataset, pinned)}
        self._jobs.advance(job.id, JobState.RUNNING, stage="extracting", result=settled)
        if job.kind == FEATURE_SET and self._is_there(job, dataset, pinned):
            return
        total, check = len(dataset.items), watch(self._jobs, job.id)
        self._jobs.plan(job.id, "extracting", total, pinned.shards(total))
        for index in range(pinned.shards(total)):
            check()
            self._queue.enqueue(Step.SHARD, job.id, index)

    def _is_there(self, job: Job, dataset: Dataset, pinned: Pinned) -> bool:
        """Whether the feature set is there; the job has ended with it then."""
        try:
            features = load_feature_set(self._store, job.owner, pinned.feature_set_id(dataset.id))
        except UnknownName:
            return False
        rows = len(features.kept)
        self._jobs.plan(job.id, "extracting", features.total, 1)
        self._jobs.shard_done(job.id, 0, rows, len(features.errors), reused=rows)
        self._succeed(job, features.id)
        return True

    def _donors(self, job: Job, dataset: Dataset, pinned: Pinned) -> list[str]:
        """The other datasets that rows are taken from: where each is stands in the store.

        Features that are fixed in their batches are taken from nowhere.
        """
        if pinned.deterministic:
            return []
        shelves = sorted(set(pinned.shelves.values()))
        found = find_donors(self._store, self._datasets, dataset, shelves)
        if found is not None:
            self._store.put_new(layout.reuse(job.owner, job.id), found.pack())
        for shelf in shelves:
            self._store.put_new(layout.extracted(job.owner, shelf, dataset.id), b"")
        return [] if found is None else list(found.names)

    def shard(self, job: Job, index: int) -> None:
        """Extract one shard, unless it is there already; the last one enqueues `finish`."""
        pinned, request = Pinned.of(job), request_of(job)
        shard, took_s = self._shards.find(request.dataset, pinned, index), 0.0
        reused = 0 if shard is None else len(shard.kept)
        if shard is None:
            began_s = time.monotonic()
            made = self._shards.make(self._work(job, pinned, index), watch(self._jobs, job.id))
            shard, reused, took_s = made.shard, made.reused, time.monotonic() - began_s
            self._metrics.job_items(len(shard.kept) - reused, len(shard.errors), reused)
        done, failed = len(shard.kept), len(shard.errors)
        if self._jobs.shard_done(job.id, index, done, failed, reused=reused, took_s=took_s):
            self._queue.enqueue(Step.FINISH, job.id)

    def _work(self, job: Job, pinned: Pinned, index: int) -> Work:
        """A shard to make, with those of its rows that other datasets have."""
        request = request_of(job)
        dataset = self._datasets.dataset(job.owner, request.dataset)
        work = Work(dataset, params_of(request), pinned, index)
        if not job.result.get("sources"):
            return work
        donors = self._known_donors(layout.reuse(job.owner, job.id))
        return replace(work, known=donors.rows(self._store, pinned.shelves, work.numbers))

    def finish(self, job: Job) -> None:
        """Write the manifest, which is the commit of a feature set."""
        pinned, request = Pinned.of(job), request_of(job)
        feature_set_id = feature_set_id_of(job)
        for shelf in pinned.shelves.values():
            use = layout.use(request.dataset, shelf, job.owner, feature_set_id)
            self._store.put_new(use, b"")
        dataset = self._datasets.dataset(job.owner, request.dataset)
        features = commit_feature_set(self._store, job, dataset, self._clock())
        self._store.delete(layout.reuse(job.owner, job.id))
        self._succeed(job, features.id)

    def _succeed(self, job: Job, feature_set_id: str) -> None:
        counted = self._jobs.get(job.id)
        result = {
            FEATURE_SET: feature_set_id,
            "reused": counted.reused,
            "computed": counted.done - counted.reused,
        }
        self._jobs.advance(job.id, JobState.SUCCEEDED, result=result)

    def _shard_size(self, dataset_id: str) -> int:
        """Images a shard of this dataset: whatever the first job on it had set."""
        key = layout.shard_plan(dataset_id)
        self._store.put_new(key, json.dumps({"shard_images": self._shard_images}).encode())
        return int(json.loads(self._store.get(key))["shard_images"])

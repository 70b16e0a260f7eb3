"""What is done for the features of a dataset: cut it into shards, make them, put them together."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from offshelf.core.jobs import JobState
from offshelf.heads.features import read_shards
from offshelf.queue.tasks import Step
from offshelf.schemas.base import ErrorBody, WeightsBody
from offshelf.schemas.feature_sets import FEATURE_SET, FeatureSet
from offshelf.store import layout
from offshelf.worker.extraction import ShardExtraction
from offshelf.worker.planning import (
    Pinned,
    check_request,
    feature_set_id_of,
    params_of,
    request_of,
)
from offshelf.worker.watching import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.queue.interface import Jobs, StepQueue
    from offshelf.store.interface import Store
    from offshelf.worker.interface import Extractor
    from offshelf.worker.known_datasets import KnownDatasets
    from offshelf.worker.metrics import WorkerMetrics


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
        self._shards = ShardExtraction(store, extractor)

    def start(self, job: Job) -> None:
        """Check what is asked, pin what it means, and enqueue the shards."""
        request = request_of(job)
        dataset = self._datasets.dataset(job.owner, request.dataset)
        check_request(dataset, self._datasets.description(dataset), request)
        with self._extractor.resolve(params_of(request)) as plan:
            pinned = Pinned.from_plan(plan, self._shard_size(dataset.id))
        self._jobs.advance(job.id, JobState.RUNNING, stage="extracting", result=asdict(pinned))
        total = len(dataset.items)
        self._jobs.plan(job.id, "extracting", total, pinned.shards(total))
        for index in range(pinned.shards(total)):
            self._queue.enqueue(Step.SHARD, job.id, index)

    def shard(self, job: Job, index: int) -> None:
        """Extract one shard, unless it is there already; the last one enqueues `finish`."""
        pinned, request = Pinned.of(job), request_of(job)
        shard = self._shards.find(request.dataset, pinned, index)
        if shard is None:
            dataset = self._datasets.dataset(job.owner, request.dataset)
            check = watch(self._jobs, job.id)
            shard = self._shards.make(dataset, params_of(request), pinned, index, check)
            self._metrics.job_items(len(shard.kept), len(shard.errors))
        if self._jobs.shard_done(job.id, index, len(shard.kept), len(shard.errors)):
            self._queue.enqueue(Step.FINISH, job.id)

    def finish(self, job: Job) -> None:
        """Write the manifest, which is the commit of a feature set."""
        features = self._manifest(job)
        key = layout.feature_set(job.owner, features.id)
        self._store.put_new(key, features.model_dump_json().encode())
        self._jobs.advance(job.id, JobState.SUCCEEDED, result={FEATURE_SET: features.id})

    def _shard_size(self, dataset_id: str) -> int:
        """Images a shard of this dataset: whatever the first job on it had set."""
        key = layout.shard_plan(dataset_id)
        self._store.put_new(key, json.dumps({"shard_images": self._shard_images}).encode())
        return int(json.loads(self._store.get(key))["shard_images"])

    def _manifest(self, job: Job) -> FeatureSet:
        """All that is known of a feature set; which items it has is the same under every tap."""
        pinned, request = Pinned.of(job), request_of(job)
        total = len(self._datasets.dataset(job.owner, request.dataset).items)
        any_fingerprint = min(pinned.fingerprints.values())
        kept: list[int] = []
        errors: dict[int, ErrorBody] = {}
        shards = pinned.shards(total)
        for shard in read_shards(self._store, request.dataset, any_fingerprint, shards):
            kept += shard.kept.tolist()
            errors.update(shard.errors)
        return FeatureSet(
            id=feature_set_id_of(job),
            owner=job.owner,
            dataset=request.dataset,
            created_s=self._clock(),
            specs=pinned.specs,
            fingerprints=pinned.fingerprints,
            weights=WeightsBody(**pinned.weights),
            shards=shards,
            total=total,
            kept=kept,
            errors=errors,
        )

"""The steps of a job. Each may run again from its start at any time, on any worker.

What a step writes is either immutable and written once (shards, manifests, heads) or a set that
takes a member once (finished shards), so a step that is repeated after a crash, or that runs
twice at a time, changes nothing. `start` pins what the job means (fingerprints, shard size) in
the job's result; every later step holds itself to that.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from offshelf.core.jobs import JobState
from offshelf.datasets.interface import ImportLimits
from offshelf.datasets.reading import ImageReader
from offshelf.datasets.sources import NO_SOURCES, Sources
from offshelf.errors import ErrorInfo, JobCancelled, JobConflict, UnknownName
from offshelf.heads.exports.interface import EXPORT
from offshelf.queue.jobs import WAITING_TO_TRAIN
from offshelf.queue.tasks import Step
from offshelf.schemas.datasets import DATASET
from offshelf.schemas.heads import HEAD
from offshelf.schemas.transforms import TRANSFORM
from offshelf.settings import Settings
from offshelf.worker.content_cache import ContentCache
from offshelf.worker.dataset_steps import DatasetSteps
from offshelf.worker.export_steps import ExportSteps
from offshelf.worker.feature_steps import FeatureSteps
from offshelf.worker.head_steps import HeadSteps
from offshelf.worker.known_datasets import KnownDatasets
from offshelf.worker.transform_steps import TransformSteps
from offshelf.worker.watching import check_wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.queue.interface import Jobs, StepQueue
    from offshelf.store.interface import Store
    from offshelf.worker.interface import Extractor
    from offshelf.worker.metrics import WorkerMetrics
    from offshelf.worker.training import Trainer


# What an import may take where nobody has set it: the defaults of the settings.
LIMITS: Final = ImportLimits(8 << 30, 2_000_000, 32 << 20)


class JobSteps:
    """`queue.tasks.StepHandler` over the ports of a worker. `clock` gives Unix time.

    `settings` are those of child processes that load networks.
    """

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        extractor: Extractor,
        queue: StepQueue,
        trainer: Trainer,
        metrics: WorkerMetrics,
        shard_images: int,
        cache: ContentCache | None = None,
        clock: Callable[[], float] = time.time,
        sources: Sources = NO_SOURCES,
        limits: ImportLimits = LIMITS,
        settings: Settings | None = None,
    ) -> None:
        self._jobs = jobs
        self._queue = queue
        datasets = KnownDatasets(store)
        self._features = FeatureSteps(
            jobs,
            store,
            extractor,
            queue,
            metrics,
            datasets,
            cache or ContentCache(None, metrics),
            ImageReader(store, sources),
            shard_images,
            clock,
        )
        self._registering = DatasetSteps(jobs, store, sources, limits, clock)
        self._heads = HeadSteps(jobs, store, trainer, datasets, clock)
        self._transforms = TransformSteps(jobs, store, trainer, clock)
        self._exports = ExportSteps(
            jobs, store, extractor, queue, trainer, settings or Settings(), clock
        )

    def start(self, job_id: str) -> None:
        """Check what is asked, pin what it means, and enqueue the shards."""
        self._run(job_id, self._start)

    def shard(self, job_id: str, index: int) -> None:
        """Extract one shard, unless it is there already; the last one enqueues `finish`.

        An export has one, which makes the file.
        """
        self._run(job_id, lambda job: self._shard(job, index))

    def finish(self, job_id: str) -> None:
        """Write the manifest of a feature set; send a head to training."""
        self._run(job_id, self._finish)

    def train(self, job_id: str) -> None:
        """Fit the head of a job, unless it is there already; or its whitening."""
        self._run(job_id, self._train)

    def fail(self, job_id: str, error: BaseException) -> None:
        """Record that the job is given up, and why; one that was to be cancelled is cancelled."""
        with suppress(JobConflict, UnknownName):
            if self._jobs.get(job_id).state is JobState.CANCELLING:
                self._jobs.advance(job_id, JobState.CANCELLED)
            else:
                self._jobs.advance(job_id, JobState.FAILED, error=ErrorInfo.of(error))

    def _run(self, job_id: str, action: Callable[[Job], None]) -> None:
        """Run a step for a job that still wants it; end the job where it is being cancelled."""
        try:
            job = self._jobs.get(job_id)
        except UnknownName:
            return  # the record has expired: nobody will look for the result
        try:
            check_wanted(job)
            if job.state is JobState.QUEUED:
                job = self._jobs.advance(job_id, JobState.RUNNING, stage="planning")
            action(job)
        except (JobCancelled, JobConflict):  # a conflict: the job ended under our hands
            with suppress(JobConflict, UnknownName):
                if self._jobs.get(job_id).state is JobState.CANCELLING:
                    self._jobs.advance(job_id, JobState.CANCELLED)

    def _start(self, job: Job) -> None:
        if job.kind == DATASET:
            self._registering.start(job)
        elif job.kind == TRANSFORM:
            self._send_to_training(job)
        elif job.kind == EXPORT:
            self._exports.start(job)
        else:
            self._features.start(job)

    def _shard(self, job: Job, index: int) -> None:
        if job.kind == EXPORT:
            self._exports.make(job)
        else:
            self._features.shard(job, index)

    def _finish(self, job: Job) -> None:
        if job.kind == HEAD:
            self._send_to_training(job)
        else:
            self._features.finish(job)

    def _train(self, job: Job) -> None:
        if job.kind == TRANSFORM:
            self._transforms.train(job)
        else:
            self._heads.train(job)

    def _send_to_training(self, job: Job) -> None:
        self._jobs.advance(job.id, JobState.RUNNING, stage=WAITING_TO_TRAIN)
        self._queue.enqueue(Step.TRAIN, job.id)

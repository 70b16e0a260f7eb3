"""What is done for a dataset that is registered from a source: one step, from its start each time.

Nothing of it is kept before the manifest but copies of images, which are stored by content; so a
step that is run again, after its worker was killed, changes nothing and gives the same dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.core.jobs import JobState
from offshelf.datasets import records
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.schemas.datasets import DATASET, DatasetJob
from offshelf.worker.watching import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.datasets.interface import ImportLimits
    from offshelf.datasets.sources import Sources
    from offshelf.queue.interface import Jobs
    from offshelf.store.interface import Store

STAGE: Final = "registering"
TOLD_FILES: Final = 64  # progress is told in steps of so many files


class DatasetSteps:
    """The one step of a job of kind `dataset`. `clock` gives Unix time."""

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        sources: Sources,
        limits: ImportLimits,
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._sources = sources
        self._limits = limits
        self._clock = clock

    def start(self, job: Job) -> None:
        """Register what the job names."""
        asked = DatasetJob.model_validate(job.params)
        self._jobs.advance(job.id, JobState.RUNNING, stage=STAGE)
        source = self._sources.open(asked.source)
        parent = asked.parent and records.load_head(self._store, job.owner, asked.parent)
        wanted = Wanted(
            owner=job.owner,
            name=asked.name or asked.source.rstrip("/").rpartition("/")[2],
            now_s=self._clock(),
            protocol=asked.protocol,
            layout=asked.layout,
            source=asked.source,
            copied=asked.copied,
            parent=parent or None,
        )
        told = _Told(self._jobs, job.id)
        head, _ = import_dataset(self._store, source, wanted, self._limits, told)
        told.end()
        self._jobs.advance(job.id, JobState.SUCCEEDED, result={DATASET: head.id})


class _Told:
    """A `datasets.interface.Watch` that tells a job's record, a run of files at a time.

    A run is told as a shard is: once, however often the step is run.
    """

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self.check = watch(jobs, job_id)
        self._run = self._done = self._failed = 0

    def found(self, images: int) -> None:
        """How many there are, is known."""
        self._jobs.plan(self._job_id, STAGE, images, -(-images // TOLD_FILES))

    def took(self, *, readable: bool) -> None:
        """Count one."""
        self._done += readable
        self._failed += not readable
        if self._done + self._failed == TOLD_FILES:
            self.end()

    def end(self) -> None:
        """Tell what was counted and not told."""
        if self._done + self._failed:
            self._jobs.shard_done(self._job_id, self._run, self._done, self._failed)
        self._run, self._done, self._failed = self._run + 1, 0, 0

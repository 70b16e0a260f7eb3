"""What is done for a transform: fit it, and keep it under its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.core.jobs import JobState
from offshelf.schemas.transforms import TRANSFORM, TransformRequest
from offshelf.worker.watching import watch
from offshelf.worker.whitening import fit_whitening

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.queue.interface import Jobs
    from offshelf.store.interface import Store
    from offshelf.worker.training import Trainer


class TransformSteps:
    """The one step of a transform's job. `clock` gives Unix time."""

    def __init__(
        self, jobs: Jobs, store: Store, trainer: Trainer, clock: Callable[[], float]
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._trainer = trainer
        self._clock = clock

    def train(self, job: Job) -> None:
        """Fit the whitening of a feature set."""
        self._jobs.advance(job.id, JobState.RUNNING, stage="training")
        request = TransformRequest.model_validate(job.params)
        check = watch(self._jobs, job.id)
        card = fit_whitening(self._store, self._trainer, job.owner, request, check, self._clock())
        result = {TRANSFORM: card.id, "step": card.step, "explained": card.explained}
        self._jobs.advance(job.id, JobState.SUCCEEDED, result=result)

"""Steps of jobs whose weights are not here go on to a worker that has them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from offshelf.errors import UnknownName, WeightsMissing
from offshelf.queue.tasks import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.queue.interface import Jobs, StepQueue
    from offshelf.queue.tasks import StepHandler

log = logging.getLogger(__name__)

# Whoever takes it next may lack the weights as well, so it is bounded.
MAX_HOPS: Final = 40
PAUSE_S: Final = 0.5


class HandingOn:
    """`queue.tasks.StepHandler` over another one.

    `elsewhere` says whether another live worker has the weights of a backbone (None: the default
    one) in its files. Where none has, WeightsMissing ends the job as before.
    """

    def __init__(
        self,
        steps: StepHandler,
        jobs: Jobs,
        queue: StepQueue,
        elsewhere: Callable[[str | None], bool],
    ) -> None:
        self._steps = steps
        self._jobs = jobs
        self._queue = queue
        self._elsewhere = elsewhere
        self.finish = steps.finish
        self.train = steps.train
        self.fail = steps.fail

    def start(self, job_id: str) -> None:
        """Plan the job, here or elsewhere."""
        try:
            self._steps.start(job_id)
        except WeightsMissing as error:
            self._hand_on(error, Step.START, job_id)

    def shard(self, job_id: str, index: int) -> None:
        """Do one shard, here or elsewhere."""
        try:
            self._steps.shard(job_id, index)
        except WeightsMissing as error:
            self._hand_on(error, Step.SHARD, job_id, index)

    def _hand_on(
        self, error: WeightsMissing, step: Step, job_id: str, index: int | None = None
    ) -> None:
        """Put the step back for others; raises `error` where that would not help."""
        try:
            job = self._jobs.get(job_id)
        except UnknownName:
            return  # the record has expired: nobody will look for the result
        hops = self._jobs.tried(job_id, f"{step}:{index} elsewhere")
        if hops > MAX_HOPS or not self._elsewhere(job.params.get("backbone")):
            raise error
        log.info("step %s of job %s goes on to a worker with the weights", step, job_id)
        self._queue.enqueue(step, job_id, index, delay_s=PAUSE_S)

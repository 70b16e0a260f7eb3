"""Steps of jobs whose weights are not here go on to a worker that has them."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from offshelf.errors import UnknownName, WeightsMissing
from offshelf.queue.tasks import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.queue.interface import Jobs, StepQueue
    from offshelf.queue.tasks import StepHandler
    from offshelf.worker.interface import Duty

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0


class HandingOn:
    """`queue.tasks.StepHandler` over another one.

    A step goes on for as long as another live worker says that it has the weights; who could not
    use its files stops saying so. Where nobody has them, WeightsMissing ends the job.
    """

    def __init__(self, steps: StepHandler, jobs: Jobs, queue: StepQueue, duty: Duty) -> None:
        self._steps = steps
        self._jobs = jobs
        self._queue = queue
        self._duty = duty
        self.finish = steps.finish
        self.train = steps.train
        self.fail = steps.fail

    def start(self, job_id: str) -> None:
        """Plan the job, here or elsewhere."""
        self._do(Step.START, job_id, None, partial(self._steps.start, job_id))

    def shard(self, job_id: str, index: int) -> None:
        """Do one shard, here or elsewhere."""
        self._do(Step.SHARD, job_id, index, partial(self._steps.shard, job_id, index))

    def _do(self, step: Step, job_id: str, index: int | None, action: Callable[[], None]) -> None:
        try:
            params = self._jobs.get(job_id).params
        except UnknownName:
            return  # the record has expired: nobody will look for the result
        backbone, weights = params.get("backbone"), params.get("weights")
        if not self._duty.is_elsewhere_alone(backbone, weights):
            try:
                action()
            except WeightsMissing:
                if self._duty.lacks(backbone, weights) is None:
                    raise
            except UnknownName:
                # The name may be that of a network which was brought to another worker alone.
                if self._duty.knows(backbone) or self._duty.lacks(backbone, weights) is None:
                    raise
            else:
                return
        log.info("step %s of job %s goes on to a worker with the weights", step, job_id)
        self._queue.enqueue(step, job_id, index, delay_s=PAUSE_S)

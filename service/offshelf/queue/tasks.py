"""The steps that a job is made of, as Dramatiq messages and actors.

The API enqueues by name, so it needs neither the actors nor what they import. Every step names
its job first; a shard also its number.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import dramatiq

from offshelf.errors import error_codes
from offshelf.queue.connection import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.errors import OffshelfError


class Step(StrEnum):
    """What is done for a job, in this order; `train` for heads only."""

    START = "start"
    SHARD = "shard"
    FINISH = "finish"
    TRAIN = "train"


# Short steps have a queue of their own: one that ends a job, or finds that its features are all
# there, does not stand behind a thousand shards of another job.
PLANNING: Final = "planning"
BULK: Final = "bulk"
TRAINING: Final = "training"

QUEUE_OF: Final = {
    Step.START: PLANNING,
    Step.SHARD: BULK,
    Step.FINISH: PLANNING,
    Step.TRAIN: TRAINING,
}
# Lower runs first among what a worker holds: what ends a job before what begins another.
PRIORITY_OF: Final = {Step.TRAIN: 0, Step.FINISH: 10, Step.START: 50, Step.SHARD: 100}


class StepHandler(Protocol):
    """What a worker does at each step; every method may run again from the start at any time."""

    def start(self, job_id: str) -> None:
        """Plan the job and enqueue its shards."""
        ...

    def shard(self, job_id: str, index: int) -> None:
        """Do one shard; the last one enqueues `finish`."""
        ...

    def finish(self, job_id: str) -> None:
        """Put the shards together, or go on to training."""
        ...

    def train(self, job_id: str) -> None:
        """Train the head of the job."""
        ...

    def fail(self, job_id: str, error: BaseException) -> None:
        """Record that the job is given up, and why."""
        ...


class DramatiqJobQueue:
    """`interface.JobQueue` and `interface.StepQueue` on a broker; it needs no actors."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker = broker

    def submit(self, job: Job) -> None:
        """Enqueue the first step of a job; doing it twice does no harm."""
        self.enqueue(Step.START, job.id)

    def enqueue(
        self, step: Step, job_id: str, index: int | None = None, delay_s: float = 0.0
    ) -> None:
        """Enqueue a step; `index` is the shard's number, for `Step.SHARD` only."""
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=QUEUE_OF[step],
            actor_name=step.value,
            args=(job_id,) if index is None else (job_id, index),
            kwargs={},
            options={},
        )
        with translated():
            self._broker.enqueue(message, delay=int(1000 * delay_s) or None)


def declare_actors(broker: dramatiq.Broker, handler: StepHandler) -> None:
    """Let `broker` run the steps with `handler`; one handler a broker."""
    actions: dict[Step, Callable[..., Any]] = {
        Step.START: handler.start,
        Step.SHARD: handler.shard,
        Step.FINISH: handler.finish,
        Step.TRAIN: handler.train,
    }
    expected = final_errors()
    for step, action in actions.items():
        dramatiq.Actor(
            action,
            broker=broker,
            actor_name=step.value,
            queue_name=QUEUE_OF[step],
            priority=PRIORITY_OF[step],
            # Dramatiq logs these in a line, and any other with its traceback.
            options={"throws": expected},
        )


def final_errors() -> tuple[type[OffshelfError], ...]:
    """The kinds of error that another try cannot mend, however they are refined."""
    kinds = error_codes().values()
    passing = [kind for kind in kinds if kind.retryable]
    return tuple(kind for kind in kinds if not any(issubclass(p, kind) for p in passing))


def step_name(message: dramatiq.Message[Any] | dramatiq.MessageProxy) -> tuple[str, str]:
    """The job of a message and the name of its step, `shard:7` for a shard."""
    job_id, *rest = message.args
    return str(job_id), ":".join([message.actor_name, *map(str, rest)])

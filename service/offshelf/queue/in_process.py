"""The queue without a server: jobs in memory and steps on threads, for work in one process.

Nothing here outlives the process. It need not: what a step did is in the store, and a job that
is begun again finds it there.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.jobs import TERMINAL, Job, JobState, check_transition
from offshelf.errors import JobConflict, OffshelfError, UnknownName, WorkerError
from offshelf.queue.tasks import PRIORITY_OF, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from offshelf.errors import ErrorInfo
    from offshelf.queue.tasks import StepHandler

log = logging.getLogger(__name__)

# How often who waits for a job is told of it.
TELL_S: Final = 0.2


class InProcessJobs:
    """`interface.Jobs` in a dict. The id of a job follows from what is asked."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._shards: dict[str, tuple[int, set[int]]] = {}
        self._lock = threading.Lock()

    def create(
        self,
        kind: str,
        owner: str,
        params: Mapping[str, Any],
        idempotency_key: str | None = None,  # noqa: ARG002 - the same job has the same id anyway
        total: int = 0,
    ) -> tuple[Job, bool]:
        """A queued job, or the one that is there for the same; whether it is new."""
        text = json.dumps([kind, owner, dict(params)], sort_keys=True)
        job_id = hashlib.sha256(text.encode()).hexdigest()[:24]
        with self._lock:
            if job_id in self._jobs:
                return self._jobs[job_id], False
            now_s = self._clock()
            self._jobs[job_id] = Job(
                job_id, kind, owner, JobState.QUEUED, dict(params), created_s=now_s, total=total
            )
            return self._jobs[job_id], True

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """The record; UnknownName when there is none (or it belongs to another owner)."""
        job = self._jobs.get(job_id)
        if job is None or owner not in (None, job.owner):
            raise UnknownName(f"no job {job_id!r}")
        return job

    def list(self, owner: str, after: str | None, limit: int) -> tuple[Sequence[Job], bool]:
        """By id downwards, from the job after `after`; whether there are more."""
        found = [
            self._jobs[job_id]
            for job_id in sorted(self._jobs, reverse=True)
            if (after is None or job_id < after) and self._jobs[job_id].owner == owner
        ]
        return found[:limit], len(found) > limit

    def open(self, owner: str) -> Sequence[Job]:
        """The jobs of an owner that have not ended."""
        return [job for job in self._jobs.values() if job.owner == owner and not job.finished]

    def advance(
        self,
        job_id: str,
        to: JobState,
        *,
        stage: str | None = None,
        error: ErrorInfo | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Job:
        """Move to a state; JobConflict when not allowed."""
        with self._lock:
            job = self.get(job_id)
            check_transition(job_id, job.state, to)
            self._jobs[job_id] = replace(
                job,
                state=to,
                stage=job.stage if stage is None else stage,
                error=error or job.error,
                result={**job.result, **(result or {})},
                finished_s=self._clock() if to in TERMINAL else None,
            )
            return self._jobs[job_id]

    def cancel(self, job_id: str, owner: str) -> Job:
        """Ask for the end: a queued job is cancelled at once, a running one starts cancelling."""
        queued = self.get(job_id, owner).state is JobState.QUEUED
        return self.advance(job_id, JobState.CANCELLED if queued else JobState.CANCELLING)

    def plan(self, job_id: str, stage: str, total: int, shards: int) -> None:
        """Say how many items and shards the job has; a repeat changes nothing."""
        with self._lock:
            if job_id not in self._shards:
                self._shards[job_id] = (shards, set())
                self._jobs[job_id] = replace(self.get(job_id), stage=stage, total=total)

    def shard_done(
        self,
        job_id: str,
        shard: int,
        done: int,
        failed: int,
        *,
        reused: int = 0,
        took_s: float = 0.0,  # noqa: ARG002 - who waits here sees the pace for himself
    ) -> bool:
        """Count a finished shard once, however often it is told; whether all are finished now."""
        with self._lock:
            job = self.get(job_id)
            total, finished = self._shards[job_id]
            if shard not in finished:
                finished.add(shard)
                self._jobs[job_id] = replace(
                    job,
                    done=job.done + done,
                    failed=job.failed + failed,
                    reused=job.reused + reused,
                )
            return len(finished) == total

    def searched(self, job_id: str, search: Mapping[str, float | None]) -> None:
        """Nobody watches a search for C here: heads are trained through a service."""

    def tried(self, job_id: str, step: str) -> int:  # noqa: ARG002
        """Each step has one try: who wants another begins again."""
        return 1

    def settled(self, job_id: str, step: str) -> None:
        """Nothing is counted."""


class InProcessQueue:
    """`interface.StepQueue` that performs its steps itself, on threads."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, Step, str, int | None]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def enqueue(
        self,
        step: Step,
        job_id: str,
        index: int | None = None,
        delay_s: float = 0.0,  # noqa: ARG002 - there is no other worker to wait for
    ) -> None:
        """Enqueue a step."""
        with self._changed:
            entry = (PRIORITY_OF[step], next(self._order), step, job_id, index)
            heapq.heappush(self._steps, entry)
            self._changed.notify()

    def run(
        self,
        job_id: str,
        jobs: InProcessJobs,
        handler: StepHandler,
        threads: int,
        told: Callable[[Job], None],
    ) -> Job:
        """Perform a job from its first step to its end, and what it is then.

        `told` gets it now and then. What that raises (Ctrl-C as well) cancels the job and is
        raised when the steps have let go.
        """
        self.enqueue(Step.START, job_id)
        pool = [
            threading.Thread(target=self._perform, args=(handler,), name=f"steps-{number}")
            for number in range(threads)
        ]
        for thread in pool:
            thread.start()
        try:
            while not (job := jobs.get(job_id)).finished:
                told(job)
                time.sleep(TELL_S)
            told(job)
        except BaseException:
            if not jobs.get(job_id).finished:
                jobs.cancel(job_id, jobs.get(job_id).owner)
            raise
        finally:
            self._close()
            for thread in pool:
                thread.join()
        return job

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self) -> tuple[Step, str, int | None] | None:
        """The next step; None at the end."""
        with self._changed:
            while not self._steps and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            _, _, step, job_id, index = heapq.heappop(self._steps)
            return step, job_id, index

    def _perform(self, handler: StepHandler) -> None:
        while (taken := self._take()) is not None:
            step, job_id, index = taken
            try:
                if index is not None:
                    handler.shard(job_id, index)
                else:
                    {Step.START: handler.start, Step.FINISH: handler.finish}.get(
                        step, handler.train
                    )(job_id)
            except BaseException as error:
                if not isinstance(error, OffshelfError) or isinstance(error, WorkerError):
                    log.exception("%s of job %s failed", step, job_id, exc_info=error)
                handler.fail(job_id, error)


def ended(job: Job) -> Job:
    """The job if it succeeded; what its end was is raised otherwise."""
    if job.state is JobState.SUCCEEDED:
        return job
    if job.error is not None:
        raise job.error.to_exception()
    raise JobConflict(f"job {job.id} is {job.state}")

"""Whether a job is still wanted, asked again and again while its steps run."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from offshelf.core.jobs import JobState
from offshelf.errors import DependencyError, JobCancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.queue.interface import Jobs

# How long a cancellation may go unnoticed.
WATCH_S: Final = 0.25


def check_wanted(job: Job) -> None:
    """JobCancelled for a job that has ended, or is being cancelled."""
    if job.finished or job.state is JobState.CANCELLING:
        raise JobCancelled(f"job {job.id} is {job.state}")


def watch(jobs: Jobs, job_id: str) -> Callable[[], None]:
    """A check to call often: JobCancelled once the job is not to go on.

    Redis away is no reason to drop the work: the check is passed then.
    """
    due_s = 0.0

    def check() -> None:
        nonlocal due_s
        if time.monotonic() < due_s:
            return
        with suppress(DependencyError):
            check_wanted(jobs.get(job_id))
        due_s = time.monotonic() + WATCH_S

    return check

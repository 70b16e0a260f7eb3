"""What waiting for a job needs to know, without waiting: deadlines, states, how it ended."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from offshelf_client._errors import (
    ApiError,
    JobCancelledError,
    JobFailedError,
    OffshelfError,
    TimedOut,
    TransportError,
)
from offshelf_client._models import JobEvent, JobStatus, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

# The stage in which a job fits a head for every C on every fold.
CHOOSING: Final = "choosing C"
# Fields of a job that its events may carry.
COUNTS: Final = ("total", "done", "failed", "reused", "computed", "images_per_s", "left_s")
TOLD: Final = ("state", "stage", *COUNTS, "search")


class Deadline:
    """A point in time, or never."""

    def __init__(self, after_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._after_s = after_s
        self._clock = clock
        self._start_s = clock()

    def at_most(self, seconds: float) -> float:
        """So many seconds, or what is left if that is less (never under a millisecond)."""
        if self._after_s is None:
            return seconds
        return max(0.001, min(seconds, self._start_s + self._after_s - self._clock()))

    def check(self, job_id: str) -> None:
        """Raise TimedOut when it has passed."""
        if self._after_s is not None and self._clock() - self._start_s >= self._after_s:
            raise TimedOut(f"job {job_id} has not ended within {self._after_s:g} s; it goes on")


def status_after(status: JobStatus, event: JobEvent) -> JobStatus:
    """The status with what an event tells of it."""
    told: dict[str, Any] = {name: event.data[name] for name in TOLD if name in event.data}
    return replace(status, **told)


def progress_of(status: JobStatus) -> Progress:
    """How far a job is, as people are shown it."""
    stage = status.stage if status.state == "running" and status.stage else status.state
    if stage == CHOOSING and status.search is not None:
        return Progress(stage, status.search["done"], status.search["total"], unit="fits")
    return Progress(
        stage,
        status.done + status.failed,
        status.total or None,
        status.failed,
        per_s=status.images_per_s,
        left_s=status.left_s,
    )


def described(status: JobStatus) -> str:
    """Its state and, where it has one, its stage: `running (extracting)`."""
    return f"{status.state} ({status.stage})" if status.stage else status.state


def ended(status: JobStatus) -> None:
    """Return if the job succeeded; raise what its end was otherwise."""
    if status.state == "failed":
        error = status.error
        raise JobFailedError(
            f"job {status.id} failed: {error.message if error else 'no reason was recorded'}",
            code=error.code if error else "",
            retryable=error.retryable if error else False,
        )
    if status.state == "cancelled":
        raise JobCancelledError(f"job {status.id} was cancelled")


def may_come_back(error: OffshelfError) -> bool:
    """Whether a stream that broke with this error is worth opening again."""
    return isinstance(error, TransportError) or (isinstance(error, ApiError) and error.retryable)

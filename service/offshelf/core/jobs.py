"""What a job is and which states it may go through."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from offshelf.core.pace import left_s
from offshelf.errors import ErrorInfo, JobConflict


class JobState(StrEnum):
    """The states of a job, as the API shows them."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

# Which states a job may enter a state from. RUNNING from RUNNING: a job that was taken up again
# after its worker died. SUCCEEDED from CANCELLING: the work was done before the wish was seen.
ENTERED_FROM: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset(),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.RUNNING}),
    JobState.CANCELLING: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING}),
    JobState.SUCCEEDED: frozenset({JobState.RUNNING, JobState.CANCELLING}),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING}),
    JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING}),
}


@dataclass(frozen=True, slots=True)
class Job:
    """Queued work. Times are Unix seconds; counts are of items (images) of the job.

    `reused` of `done` were there already. `images_per_s` is how fast the others come, of late.
    `search` is how far a search for C is: see `schemas.jobs.SearchBody`.
    """

    id: str
    kind: str
    owner: str
    state: JobState
    params: dict[str, Any]
    created_s: float
    started_s: float | None = None
    finished_s: float | None = None
    stage: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    reused: int = 0
    images_per_s: float | None = None
    search: dict[str, float | None] | None = None
    attempts: int = 0
    error: ErrorInfo | None = None
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the job has come to its end, good or bad."""
        return self.state in TERMINAL

    @property
    def left(self) -> int:
        """Items that have not come to their end."""
        return 0 if self.finished else max(0, self.total - self.done - self.failed)

    @property
    def left_s(self) -> float | None:
        """How long the rest will take, as things go; None where nobody can tell."""
        return (
            None if self.finished else left_s(self.total, self.total - self.left, self.images_per_s)
        )


def check_transition(job_id: str, state: JobState, to: JobState) -> None:
    """Raise JobConflict unless a job may go from `state` to `to`."""
    if state not in ENTERED_FROM[to]:
        raise JobConflict(f"job {job_id} is {state}; it cannot become {to}")

"""How far a search for C is, in its job's record and events."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.heads.fit import Progress
    from offshelf.queue.interface import Jobs

CHOOSING: Final = "choosing C"
TRAINING: Final = "training"
# Between two events of a search.
TELL_S: Final = 0.5


class SearchProgress:
    """Tells of a search while it goes on; afterwards the job has its counts of images again.

    `images` are how many there are, those that have features, and those that failed. Redis away is
    no reason to drop the work.
    """

    def __init__(
        self,
        jobs: Jobs,
        job_id: str,
        images: tuple[int, int, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs, self._job_id, self._images, self._clock = jobs, job_id, images, clock
        self._due_s: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._due_s is not None:
            self._tell(TRAINING, *self._images)

    def __call__(self, now: Progress) -> None:
        """A fit of the search has ended."""
        last = now.done >= now.total
        if self._due_s is not None and self._clock() < self._due_s and not last:
            return
        self._due_s = self._clock() + TELL_S
        cell = {"C": now.C, "fold": now.fold, "score": now.score}
        self._tell(CHOOSING, now.total, now.done, 0, cell)

    def _tell(
        self,
        stage: str,
        total: int,
        done: int,
        failed: int,
        fit: dict[str, float | None] | None = None,
    ) -> None:
        with suppress(DependencyError):
            self._jobs.progress(self._job_id, stage, total, done, failed, fit)

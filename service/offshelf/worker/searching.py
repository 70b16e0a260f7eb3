"""How far a search for C is, in its job's record and events."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from offshelf.errors import DependencyError
from offshelf.schemas.learning import ChooseC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offshelf.heads.fit import Progress
    from offshelf.queue.interface import Jobs
    from offshelf.schemas.learning import Learning

CHOOSING: Final = "choosing C"
TRAINING: Final = "training"
# Between two events of a search.
TELL_S: Final = 0.5


@contextmanager
def telling(
    jobs: Jobs,
    job_id: str,
    learning: Learning,
    images: tuple[int, int, int],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[Progress], None]]:
    """What to tell of a search while it goes on; afterwards the job counts its images again.

    `images` are how many there are, those that have features, and those that failed. Redis away is
    no reason to drop the work.
    """
    due_s = clock()

    def told(now: Progress) -> None:
        nonlocal due_s
        if clock() < due_s and now.done < now.total:
            return
        due_s = clock() + TELL_S
        fit = {"C": now.C, "fold": now.fold, "score": now.score}
        with suppress(DependencyError):
            jobs.progress(job_id, CHOOSING, now.total, now.done, 0, fit)

    try:
        yield told
    finally:
        # A worker that was killed in its search has left counts of fits.
        if isinstance(learning.C, ChooseC):
            with suppress(DependencyError):
                jobs.progress(job_id, TRAINING, *images)

"""How far a search for C is, in its job's record and events."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.heads.fit import Progress
    from offshelf.queue.interface import Jobs

# Between two events of a search.
TELL_S: Final = 0.5


def telling(
    jobs: Jobs, job_id: str, clock: Callable[[], float] = time.monotonic
) -> Callable[[Progress], None]:
    """What to tell of a search while it goes on. Redis away is no reason to drop the work."""
    due_s = clock()

    def told(now: Progress) -> None:
        nonlocal due_s
        if clock() < due_s and now.done < now.total:
            return
        due_s = clock() + TELL_S
        with suppress(DependencyError):
            jobs.searched(job_id, now.model_dump())

    return told

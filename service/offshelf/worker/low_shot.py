"""A head's low-shot curve, drawn in a child process that can be killed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from offshelf.core.jobs import JobState
from offshelf.errors import DependencyError, InvalidParameter
from offshelf.heads.low_shot import CURVE, DONE, PLAN, check_shots
from offshelf.schemas.reports import LowShotCurve
from offshelf.worker.searching import TELL_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offshelf.heads.fit import FitParams
    from offshelf.queue.interface import Jobs
    from offshelf.schemas.heads import LowShot
    from offshelf.worker.lesson import Lesson
    from offshelf.worker.training import Trainer

STAGE: Final = "low-shot curve"


def check_low_shot(plan: LowShot | None, lesson: Lesson) -> None:
    """InvalidParameter where a curve is wanted that the samples do not give."""
    if plan is None:
        return
    truth = lesson.labels[list(lesson.test)]
    if not len(truth) or (truth.ndim == 2 and not (truth == 1).any()):
        raise InvalidParameter(
            "low_shot scores heads on the test side, and there is none with labels: name a split "
            "that has one"
        )
    check_shots(plan, lesson.labels[list(lesson.train)], lesson.classes)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Draws the curve of what a fit left in a folder. `check` is called all along.

    What `check` raises kills the child.
    """

    trainer: Trainer
    workdir: Path
    check: Callable[[], None]
    jobs: Jobs
    job_id: str

    def curve(self, plan: LowShot | None, params: FitParams, C: float) -> LowShotCurve | None:
        """The curve of heads trained as `params` say, all at `C`; None where none is wanted.

        The stage of the job says how many heads there are.
        """
        if plan is None:
            return None
        (self.workdir / PLAN).write_text(plan.model_dump_json())
        learning = params.learning.model_copy(update={"C": C, "calibrate": "none"})
        params.model_copy(update={"learning": learning}).write(self.workdir)
        heads, told, due_s = len(set(plan.shots)) * plan.draws, -1, 0.0

        def watch() -> None:
            nonlocal told, due_s
            self.check()
            done = _done(self.workdir)
            if done > told and time.monotonic() >= due_s:
                told, due_s = done, time.monotonic() + TELL_S
                self._tell(f"{STAGE}: {done} of {heads} heads")

        self.trainer.run("offshelf.heads.low_shot", self.workdir, watch)
        return LowShotCurve.model_validate_json((self.workdir / CURVE).read_bytes())

    def _tell(self, stage: str) -> None:
        """Redis away is no reason to drop the work."""
        with suppress(DependencyError):
            self.jobs.advance(self.job_id, JobState.RUNNING, stage=stage)


def _done(workdir: Path) -> int:
    """How many heads there are; a number that is just being written counts as none."""
    with suppress(FileNotFoundError, ValueError):
        return int((workdir / DONE).read_text())
    return 0

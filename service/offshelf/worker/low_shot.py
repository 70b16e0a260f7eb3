"""A head's low-shot curve, drawn in a child process that can be killed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from offshelf.errors import DependencyError, InvalidParameter
from offshelf.heads.low_shot import CURVE, DONE, PLAN, check_shots
from offshelf.schemas.reports import LowShotCurve
from offshelf.worker.searching import TRAINING

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

    def curve(
        self, plan: LowShot | None, params: FitParams, C: float, images: tuple[int, int, int]
    ) -> LowShotCurve | None:
        """The curve of heads trained as `params` say, all at `C`; None where none is wanted.

        The job counts heads meanwhile, and afterwards `images` again: how many there are, those
        that have features, and those that failed.
        """
        if plan is None:
            return None
        (self.workdir / PLAN).write_text(plan.model_dump_json())
        learning = params.learning.model_copy(update={"C": C, "calibrate": "none"})
        params.model_copy(update={"learning": learning}).write(self.workdir)
        heads, told = len(set(plan.shots)) * plan.draws, -1

        def watch() -> None:
            nonlocal told
            self.check()
            done = max(told, _done(self.workdir))
            if done > told:
                told = done
                self._tell(STAGE, heads, done, 0)

        self.trainer.run("offshelf.heads.low_shot", self.workdir, watch)
        self._tell(TRAINING, *images)
        return LowShotCurve.model_validate_json((self.workdir / CURVE).read_bytes())

    def _tell(self, stage: str, total: int, done: int, failed: int) -> None:
        """Redis away is no reason to drop the work."""
        with suppress(DependencyError):
            self.jobs.progress(self.job_id, stage, total, done, failed)


def _done(workdir: Path) -> int:
    """How many heads there are; a number that is just being written counts as none."""
    with suppress(FileNotFoundError, ValueError):
        return int((workdir / DONE).read_text())
    return 0

"""A head's low-shot curve, drawn in a child process that can be killed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from offshelf.errors import InvalidParameter
from offshelf.heads.low_shot import CURVE, DONE, PLAN, check_shots
from offshelf.schemas.reports import LowShotCurve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offshelf.schemas.heads import LowShot
    from offshelf.worker.lesson import Lesson
    from offshelf.worker.training import Trainer


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


def low_shot_curve(
    trainer: Trainer,
    workdir: Path,
    plan: LowShot | None,
    check: Callable[[], None],
    tell: Callable[[str], object],
) -> LowShotCurve | None:
    """The curve of what a fit left in `workdir`; None where none is wanted.

    `check` is called all along, and what it raises kills the child; `tell` gets the stage.
    """
    if plan is None:
        return None
    (workdir / PLAN).write_text(plan.model_dump_json())
    total, told = len(set(plan.shots)) * plan.draws, -1

    def watch() -> None:
        nonlocal told
        check()
        done = max(told, _done(workdir))
        if done > told:
            tell(f"low-shot: {done} of {total} heads")
            told = done

    trainer.run("offshelf.heads.low_shot", workdir, watch)
    return LowShotCurve.model_validate_json((workdir / CURVE).read_bytes())


def _done(workdir: Path) -> int:
    """How many heads there are; a number that is just being written counts as none."""
    with suppress(FileNotFoundError, ValueError):
        return int((workdir / DONE).read_text())
    return 0

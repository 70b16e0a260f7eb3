"""The child that draws a low-shot curve: it counts its heads, and ends when it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offshelf.core.jobs import JobState
from offshelf.errors import DependencyError, InvalidParameter, JobCancelled
from offshelf.heads.fit import FitParams
from offshelf.schemas.heads import LowShot
from offshelf.schemas.learning import ChooseC, Learning
from offshelf.worker.lesson import Lesson
from offshelf.worker.low_shot import Drawing, check_low_shot
from offshelf.worker.training import Trainer, TrainingSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAN = LowShot(shots=[1, 2], draws=2)
# C is chosen by the time that a curve is drawn; what was wanted is still there.
PARAMS = FitParams(
    learning=Learning(C=ChooseC(choose=[1, 2]), calibrate="platt"), classes=["a", "b"]
)


class Counts:
    """Records what a job is told, or has no Redis to tell."""

    def __init__(self, *, away: bool = False) -> None:
        self.told: list[str] = []
        self._away = away

    def advance(self, job_id: str, to: JobState, *, stage: str) -> None:
        if self._away:
            raise DependencyError("Redis is away")
        assert (job_id, to) == ("j1", JobState.RUNNING)
        self.told.append(stage)


def nothing() -> None:
    """A check that lets it go on."""


def drawing(workdir: Path, jobs: Any = None, check: Callable[[], None] = nothing) -> Drawing:
    y = np.arange(40, dtype=np.int64) % 2
    X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32) + 4 * y[:, None]
    np.save(workdir / "X.npy", X.astype(np.float32))
    TrainingSet(y, np.arange(30), np.arange(30, 40), np.zeros(0, np.int64)).write(workdir)
    return Drawing(Trainer(60), workdir, check, jobs or Counts(), "j1")


def test_a_child_draws_the_curve_and_the_job_counts_its_heads(tmp_path: Path) -> None:
    jobs = Counts()
    found = drawing(tmp_path, jobs).curve(PLAN, PARAMS, 0.5)
    assert found is not None
    assert [(p.shots, len(p.figures["accuracy"].values)) for p in found.points] == [(1, 2), (2, 2)]
    assert found.points[1].figures["accuracy"].mean > 0.8
    assert found.C == 0.5
    assert jobs.told[0] == "low-shot curve: 0 of 4 heads"
    assert jobs.told == sorted(set(jobs.told))
    assert (tmp_path / "low_shot.done").read_text() == "4"


def test_none_is_drawn_where_none_is_wanted_and_redis_away_stops_nothing(tmp_path: Path) -> None:
    assert drawing(tmp_path).curve(None, PARAMS, 1.0) is None
    found = drawing(tmp_path, Counts(away=True)).curve(PLAN, PARAMS, 1.0)
    assert found is not None


def test_a_cancel_kills_it(tmp_path: Path) -> None:
    def cancel() -> None:
        raise JobCancelled("enough")

    with pytest.raises(JobCancelled):
        drawing(tmp_path, check=cancel).curve(PLAN, PARAMS, 1.0)
    assert not (tmp_path / "curve.json").exists()


def test_what_cannot_be_drawn_comes_back_as_such(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="class 'a' has enough for 15"):
        drawing(tmp_path).curve(LowShot(shots=[16]), PARAMS, 1.0)


def test_a_curve_needs_a_test_with_labels_and_enough_to_train_on() -> None:
    labels = np.array([0, 1] * 4)
    check_low_shot(PLAN, Lesson(["a", "b"], labels, (0, 1, 2, 3), (4, 5)))
    check_low_shot(None, Lesson(["a", "b"], labels, (0, 1), ()))
    with pytest.raises(InvalidParameter, match="name a split that has one"):
        check_low_shot(PLAN, Lesson(["a", "b"], labels, (0, 1, 2, 3), ()))
    with pytest.raises(InvalidParameter, match="'a' has enough for 1"):
        check_low_shot(PLAN, Lesson(["a", "b"], labels, (0, 1), (4, 5)))
    unpublished = np.zeros((4, 2), np.int64)
    unpublished[:2] = [[1, -1], [-1, 1]]
    with pytest.raises(InvalidParameter, match="name a split that has one"):
        check_low_shot(LowShot(shots=[1]), Lesson(["a", "b"], unpublished, (0, 1), (2, 3)))

"""The child that draws a low-shot curve: it counts its heads, and ends when it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.errors import InvalidParameter, JobCancelled
from offshelf.heads.fit import FitParams
from offshelf.schemas.heads import LowShot
from offshelf.worker.lesson import Lesson
from offshelf.worker.low_shot import check_low_shot, low_shot_curve
from offshelf.worker.training import Trainer, TrainingSet

if TYPE_CHECKING:
    from pathlib import Path

PLAN = LowShot(shots=[1, 2], draws=2)


def prepared(workdir: Path) -> None:
    y = np.arange(40, dtype=np.int64) % 2
    X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32) + 4 * y[:, None]
    np.save(workdir / "X.npy", X.astype(np.float32))
    TrainingSet(y, np.arange(30), np.arange(30, 40)).write(workdir)
    FitParams("svm", 1.0, ["a", "b"]).write(workdir)


def nothing() -> None:
    """A check that lets it go on."""


def test_a_child_draws_the_curve_and_tells_how_far_it_is(tmp_path: Path) -> None:
    prepared(tmp_path)
    told: list[str] = []
    found = low_shot_curve(Trainer(60), tmp_path, PLAN, nothing, told.append)
    assert found is not None
    assert [(p.shots, len(p.figures["accuracy"].values)) for p in found.points] == [(1, 2), (2, 2)]
    assert found.points[1].figures["accuracy"].mean > 0.8
    assert told[0] == "low-shot: 0 of 4 heads"
    assert len(set(told)) == len(told)
    assert (tmp_path / "low_shot.done").read_text() == "4"
    assert low_shot_curve(Trainer(60), tmp_path, None, nothing, told.append) is None


def test_a_cancel_kills_it(tmp_path: Path) -> None:
    prepared(tmp_path)

    def cancel() -> None:
        raise JobCancelled("enough")

    with pytest.raises(JobCancelled):
        low_shot_curve(Trainer(60), tmp_path, PLAN, cancel, lambda _: None)
    assert not (tmp_path / "curve.json").exists()


def test_what_cannot_be_drawn_comes_back_as_such(tmp_path: Path) -> None:
    prepared(tmp_path)
    with pytest.raises(InvalidParameter, match="class 'a' has enough for 15"):
        low_shot_curve(Trainer(60), tmp_path, LowShot(shots=[16]), nothing, lambda _: None)


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

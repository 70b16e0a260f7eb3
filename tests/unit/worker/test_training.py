from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from offshelf.errors import InvalidParameter, JobCancelled, WorkerError
from offshelf.heads.fit import FitParams, Progress
from offshelf.schemas.learning import Learning
from offshelf.worker.training import Trainer, TrainingSet

if TYPE_CHECKING:
    from pathlib import Path

PARAMS = FitParams(learning=Learning(), classes=["a", "b"])


def prepared(workdir: Path) -> TrainingSet:
    y = np.arange(40, dtype=np.int64) % 2
    X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32) + 4 * y[:, None]
    np.save(workdir / "X.npy", X.astype(np.float32))
    return TrainingSet(y, np.arange(30), np.arange(30, 40))


def nothing() -> None:
    """A check that lets it go on."""


def test_a_child_fits_and_reports(tmp_path: Path) -> None:
    trained = Trainer(60).fit(tmp_path, PARAMS, prepared(tmp_path), nothing)
    assert trained.coef.shape == (2, 4)
    assert trained.report.train.images == 30
    assert trained.report.test is not None
    assert trained.report.test.accuracy == 1.0
    assert set(trained.report.versions) == {"offshelf", "scikit-learn", "numpy", "torch"}


def test_what_the_caller_did_wrong_comes_back_as_such(tmp_path: Path) -> None:
    training_set = prepared(tmp_path)
    training_set.labels[:] = 0
    with pytest.raises(InvalidParameter, match="no training image of: b"):
        Trainer(60).fit(tmp_path, PARAMS, training_set, nothing)


def test_a_child_that_breaks_is_our_fault(tmp_path: Path) -> None:
    training_set = prepared(tmp_path)
    (tmp_path / "X.npy").write_bytes(b"no array")
    with pytest.raises(WorkerError, match="status 1"):
        Trainer(60).fit(tmp_path, PARAMS, training_set, nothing)


def test_a_child_that_is_killed_is_told_as_such(tmp_path: Path) -> None:
    def kill() -> None:
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(WorkerError, match="was killed by signal 9; is there too little memory"):
        Trainer(60).fit(tmp_path, PARAMS, prepared(tmp_path), kill)


def test_a_cancel_kills_the_child(tmp_path: Path) -> None:
    def cancel() -> None:
        raise JobCancelled("enough")

    began_s = time.monotonic()
    with pytest.raises(JobCancelled):
        Trainer(60).fit(tmp_path, PARAMS, prepared(tmp_path), cancel)
    assert time.monotonic() - began_s < 5
    assert not (tmp_path / "report.json").exists()


def test_a_search_is_told_while_it_goes_on(tmp_path: Path) -> None:
    choice = {"choose": "vissl", "folds": 5}
    params = FitParams(learning=Learning(C=choice), classes=["a", "b"])
    told: list[Progress] = []
    trained = Trainer(110).fit(tmp_path, params, prepared(tmp_path), nothing, told.append)
    assert told
    assert all(p.total == 11 * 5 and 1 <= p.done <= p.total for p in told)
    assert [p.done for p in told] == sorted({p.done for p in told})
    assert all(1 <= p.fold <= 5 and 0 <= (p.score or 0) <= 1 for p in told)
    choice_made = trained.report.choice
    assert choice_made is not None
    assert trained.report.C in {point.C for point in choice_made.path}
    assert len(choice_made.path) == 11


def test_a_cancel_kills_a_child_in_the_middle_of_its_search(tmp_path: Path) -> None:
    """A search of minutes: many images, dimensions and values."""
    random = np.random.default_rng(0)
    y = np.arange(1500, dtype=np.int64) % 30
    np.save(tmp_path / "X.npy", random.normal(size=(1500, 2000)).astype(np.float32))
    rows = TrainingSet(y, np.arange(1500), np.zeros(0, np.int64))
    choice = {"choose": "kornblith", "folds": 10}
    params = FitParams(
        learning=Learning(kind="logreg", C=choice), classes=[str(k) for k in range(30)]
    )
    fits: list[Progress] = []

    def cancel() -> None:
        if fits:
            raise JobCancelled("enough")

    others = set(psutil.Process().children(recursive=True))  # other tests' that nobody waited for
    with pytest.raises(JobCancelled):
        Trainer(100).fit(tmp_path, params, rows, cancel, fits.append)
    assert fits[-1].done < fits[-1].total
    assert set(psutil.Process().children(recursive=True)) <= others
    assert not (tmp_path / "report.json").exists()


def test_a_fit_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"longer than 0\.01 s, the .*TRAIN_TIMEOUT_S"):
        Trainer(0.01).fit(tmp_path, PARAMS, prepared(tmp_path), nothing)


def test_a_child_without_its_parent_ends_and_cleans_up(tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    workdir.mkdir()
    PARAMS.write(workdir)
    prepared(workdir).write(workdir)
    os.mkfifo(workdir / "block")
    (workdir / "X.npy").unlink()
    (workdir / "X.npy").symlink_to(workdir / "block")  # it would read for ever
    child = subprocess.Popen(
        [sys.executable, "-m", "offshelf.heads.fit", str(workdir), "1"],  # not its parent
        stderr=subprocess.DEVNULL,
    )
    assert child.wait(20) == 1
    assert not workdir.exists()

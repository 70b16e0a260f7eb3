"""The child process that fits a head: `python -m offshelf.heads.fit <workdir>`.

A solver does not stop when asked, so it runs where it can be killed. It reads `X.npy` (mapped, one
feature a row), `y.npy` (the class of each row, or a -1, 0 or 1 for each class), `train.npy`,
`val.npy` and `test.npy` (row numbers; those of `val` are among `train`) and `params.json`, and
writes `head.safetensors`, `scores.npy` (a row for each of `test.npy`, a column a class) and, last,
`report.json`. While it searches, `progress.json` has the fit that ended last. It ends when its
parent does. What the caller did wrong is in `error.json` and gives status 3.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.engine.memory import keep_freed_memory
from offshelf.errors import ErrorInfo, RequestError
from offshelf.heads.learn import Examples, learn
from offshelf.heads.model import decide, pack_weights
from offshelf.heads.scoring import score
from offshelf.schemas.base import Strict
from offshelf.schemas.heads import Metrics
from offshelf.schemas.learning import Calibration, Choice, Learning, Metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from offshelf.heads.interface import Fitted
    from offshelf.heads.solver.choice import Cell

REQUEST_ERROR_STATUS: Final = 3
PARENT_POLL_S: Final = 0.5
# Between two that are told.
TELL_S: Final = 0.1
# Rows that are scored at a time: the features are mapped, and need never be in memory at once.
SCORE_ROWS: Final = 4096


class FitParams(Strict):
    """What is to be fitted; `params.json`. `first_figure` is the protocol's metric."""

    learning: Learning
    classes: list[str]
    first_figure: Metric | None = None

    def write(self, workdir: Path) -> None:
        """Write `params.json`."""
        (workdir / "params.json").write_text(self.model_dump_json())

    @classmethod
    def read(cls, workdir: Path) -> FitParams:
        """Read `params.json`."""
        return cls.model_validate_json((workdir / "params.json").read_bytes())


class Progress(Strict):
    """How far a search for C is: `done` of `total` fits, and the last one; `progress.json`.

    `score` is the mean over the classes where there is one each; None where it cannot be told.
    """

    done: int
    total: int
    C: float
    fold: int
    score: float | None

    @classmethod
    def read(cls, workdir: Path) -> Progress | None:
        """Read `progress.json`; None where there is none."""
        try:
            return cls.model_validate_json((workdir / "progress.json").read_bytes())
        except FileNotFoundError:
            return None


class Teller:
    """Writes `progress.json`, not more often than anyone looks."""

    def __init__(self, workdir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._workdir, self._clock = workdir, clock
        self._done = 0
        self._due_s = clock()

    def __call__(self, cell: Cell, total: int) -> None:
        """A fit has ended."""
        self._done += 1
        if self._clock() < self._due_s:
            return
        self._due_s = self._clock() + TELL_S
        known = cell.scores[~np.isnan(cell.scores)]
        score = float(known.mean()) if len(known) else None
        told = Progress(done=self._done, total=total, C=cell.C, fold=cell.fold + 1, score=score)
        _replace(self._workdir / "progress.json", told.model_dump_json())


class Report(Strict):
    """What came of it; `report.json`. With a C for each class, `C` is their geometric mean."""

    C: float
    train: Metrics
    test: Metrics | None
    warnings: list[str]
    versions: dict[str, str]
    choice: Choice | None = None
    calibration: Calibration | None = None

    def write(self, workdir: Path) -> None:
        """Write `report.json` whole or not at all: it says that the fit is complete."""
        _replace(workdir / "report.json", self.model_dump_json())

    @classmethod
    def read(cls, workdir: Path) -> Report:
        """Read `report.json`."""
        return cls.model_validate_json((workdir / "report.json").read_bytes())


def _replace(file: Path, text: str) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(file)


def fit(workdir: Path) -> None:
    """Fit what is in `workdir` and write the results there."""
    params = FitParams.read(workdir)
    features: NDArray[np.float32] = np.load(workdir / "X.npy", mmap_mode="r")
    labels, train, val, test = (
        np.load(workdir / f"{name}.npy") for name in ("y", "train", "val", "test")
    )
    places = np.flatnonzero(np.isin(train, val))
    examples = Examples(features[train], labels[train], params.classes, places)
    learned = learn(params.learning, examples, params.first_figure, Teller(workdir))
    fitted = learned.fitted
    (workdir / "head.safetensors").write_bytes(pack_weights(fitted.coef, fitted.intercept))
    sides = [decisions(fitted, features, rows) for rows in (train, test)]
    np.save(workdir / "scores.npy", sides[1])
    metrics = [
        score(labels[rows], scores, params.classes)
        for rows, scores in zip((train, test), sides, strict=True)
    ]
    assert metrics[0] is not None  # noqa: S101 - there are training images
    Report(
        C=learned.C,
        train=metrics[0],
        test=metrics[1],
        warnings=list(fitted.warnings),
        versions=versions(),
        choice=learned.choice,
        calibration=learned.calibration,
    ).write(workdir)


def decisions(
    fitted: Fitted, features: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The scores (rows, K) of some rows, by the float32 weights that will be served."""
    parts = [
        decide(fitted.coef, fitted.intercept, features[rows[first : first + SCORE_ROWS]])
        for first in range(0, len(rows), SCORE_ROWS)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(fitted.coef)), np.float32)


def versions() -> dict[str, str]:
    """What a head was fitted with."""
    from offshelf import __version__

    libraries = {name: version(name) for name in ("numpy", "scikit-learn", "torch")}
    return {"offshelf": __version__, **libraries}


def end_with_parent(parent: int, workdir: Path) -> None:
    """Exit, and clean up, once `parent` is no longer our parent: nobody waits for the result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        _abandon(workdir)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _abandon(workdir: Path) -> None:
    shutil.rmtree(workdir, ignore_errors=True)
    os._exit(1)


def run_child(work: Callable[[Path], None], arguments: list[str]) -> int:
    """Do `work` as a child process; its arguments are the working directory and the parent's id."""
    workdir, parent = Path(arguments[0]), int(arguments[1])
    end_with_parent(parent, workdir)
    try:
        work(workdir)
    except RequestError as error:
        (workdir / "error.json").write_text(json.dumps(ErrorInfo.of(error).to_dict()))
        return REQUEST_ERROR_STATUS
    except OSError:
        if os.getppid() != parent:  # its files are being removed: that is to come to its end
            _abandon(workdir)
        raise
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(run_child(fit, sys.argv[1:]))

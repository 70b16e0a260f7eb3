"""Training a head in a child process that can be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from os import getpid
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.errors import ErrorInfo, InvalidParameter, WorkerError
from offshelf.heads.fit import REQUEST_ERROR_STATUS, FitParams, Progress, Report
from offshelf.heads.model import unpack_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

POLL_S: Final = 0.1
KILL_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted head: `coef` (K, D), `intercept` (K,) and the report on it.

    `scores` (T, K) are those of the test rows.
    """

    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]
    scores: NDArray[np.float32]
    report: Report


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Labels and row numbers that go with the features `X.npy` of a working directory.

    `labels` is a class index for each row, or a -1, 0 or 1 for each row and class. Rows of `val`,
    which the split has for validation, are among `train`.
    """

    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    val: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def write(self, workdir: Path) -> None:
        """Write them for the child."""
        np.save(workdir / "y.npy", self.labels)
        np.save(workdir / "train.npy", self.train)
        np.save(workdir / "val.npy", self.val)
        np.save(workdir / "test.npy", self.test)


@dataclass(frozen=True, slots=True)
class Trainer:
    """Runs fits in child processes. `environment` is the child's, None for our own.

    A fit that takes longer than `timeout_s` is killed: InvalidParameter, as waiting again would
    not help.
    """

    timeout_s: float
    scratch: Path | None = None
    environment: Mapping[str, str] | None = None

    def workdir(self) -> tempfile.TemporaryDirectory[str]:
        """A fresh folder for the features and the results."""
        if self.scratch is not None:
            self.scratch.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="fit-", dir=self.scratch)

    def fit(
        self,
        workdir: Path,
        params: FitParams,
        training_set: TrainingSet,
        check: Callable[[], None],
        told: Callable[[Progress], None] = lambda _: None,
    ) -> Trained:
        """Fit on `X.npy` of `workdir`. What `check`, called all along, raises kills the child.

        `told` gets how far a search for C is, whenever that is news.
        """
        params.write(workdir)
        training_set.write(workdir)
        look = _with_progress(workdir, check, told)
        self.run("offshelf.heads.fit", workdir, look)
        look()  # a search may be over before anyone has looked
        coef, intercept = unpack_weights((workdir / "head.safetensors").read_bytes())
        return Trained(coef, intercept, np.load(workdir / "scores.npy"), Report.read(workdir))

    def run(self, module: str, workdir: Path, check: Callable[[], None]) -> None:
        """Run a module of ours on `workdir` in a child process, to its end.

        What it says that the caller did wrong is raised, and WorkerError where it breaks.
        """
        with (workdir / "log.txt").open("wb") as log:
            child = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                [sys.executable, "-m", module, str(workdir), str(getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        try:
            self._await(child, check)
        finally:
            child.kill()
            child.wait(KILL_WAIT_S)
        _check_status(workdir, child.returncode)

    def _await(self, child: subprocess.Popen[bytes], check: Callable[[], None]) -> None:
        deadline_s = time.monotonic() + self.timeout_s
        while True:
            try:
                child.wait(POLL_S)
            except subprocess.TimeoutExpired:
                check()
            else:
                return
            if time.monotonic() > deadline_s:
                raise InvalidParameter(
                    f"the training or export took longer than {self.timeout_s:g} s, the bound that "
                    "OFFSHELF_TRAIN_TIMEOUT_S sets"
                )


def _with_progress(
    workdir: Path, check: Callable[[], None], told: Callable[[Progress], None]
) -> Callable[[], None]:
    """A check that also tells of a search that goes on."""
    last: Progress | None = None

    def look() -> None:
        nonlocal last
        check()
        now = Progress.read(workdir)
        if now is not None and now != last:
            last = now
            told(now)

    return look


def _check_status(workdir: Path, status: int) -> None:
    if status == REQUEST_ERROR_STATUS:
        error = json.loads((workdir / "error.json").read_text())
        raise ErrorInfo.from_dict(error).to_exception()
    if status != 0:
        log = (workdir / "log.txt").read_text(errors="replace")
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        hint = "; is there too little memory?" if status == -signal.SIGKILL else ""
        raise WorkerError(f"the training or export process {ended}{hint}: {log[-2000:]}")

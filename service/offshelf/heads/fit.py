"""The child process that fits a head: `python -m offshelf.heads.fit <workdir>`.

A solver neither reports progress nor stops when asked, so it runs where it can be killed. It
reads `X.npy` (mapped, one feature a row), `y.npy` (the class of each row, or a -1, 0 or 1 for each
class), `train.npy` and `test.npy` (row numbers) and `params.json`, and writes `head.safetensors`,
`scores.npy` (a row for each of `test.npy`, a column a class) and, last, `report.json`. It ends when
its parent does. What the caller did wrong is in `error.json` and gives status 3.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf.engine.memory import keep_freed_memory
from offshelf.errors import ErrorInfo, RequestError
from offshelf.heads.interface import SOLVERS, Fitted, check_classes
from offshelf.heads.labels import check_labels, fit_labels
from offshelf.heads.model import decide, pack_weights
from offshelf.heads.scoring import score
from offshelf.schemas.heads import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

REQUEST_ERROR_STATUS: Final = 3
PARENT_POLL_S: Final = 0.5
# Rows that are scored at a time: the features are mapped, and need never be in memory at once.
SCORE_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class FitParams:
    """What is to be fitted; `params.json`."""

    kind: str
    C: float
    classes: list[str]

    def write(self, workdir: Path) -> None:
        """Write `params.json`."""
        (workdir / "params.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, workdir: Path) -> FitParams:
        """Read `params.json`."""
        return cls(**json.loads((workdir / "params.json").read_text()))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it; `report.json`."""

    train: Metrics
    test: Metrics | None
    warnings: list[str]
    versions: dict[str, str]

    def write(self, workdir: Path) -> None:
        """Write `report.json` whole or not at all: it says that the fit is complete."""
        data = asdict(self)
        data["train"] = self.train.model_dump()
        data["test"] = self.test.model_dump() if self.test else None
        partial = workdir / "report.partial"
        partial.write_text(json.dumps(data))
        partial.replace(workdir / "report.json")

    @classmethod
    def read(cls, workdir: Path) -> Report:
        """Read `report.json`."""
        data: dict[str, Any] = json.loads((workdir / "report.json").read_text())
        test = data.pop("test")
        return cls(
            train=Metrics(**data.pop("train")), test=Metrics(**test) if test else None, **data
        )


def fit(workdir: Path) -> None:
    """Fit what is in `workdir` and write the results there."""
    params = FitParams.read(workdir)
    features: NDArray[np.float32] = np.load(workdir / "X.npy", mmap_mode="r")
    labels, train, test = (np.load(workdir / f"{name}.npy") for name in ("y", "train", "test"))
    fitted = fitted_by(params, features[train], labels[train])
    (workdir / "head.safetensors").write_bytes(pack_weights(fitted.coef, fitted.intercept))
    sides = [decisions(fitted, features, rows) for rows in (train, test)]
    np.save(workdir / "scores.npy", sides[1])
    metrics = [
        score(labels[rows], scores, params.classes)
        for rows, scores in zip((train, test), sides, strict=True)
    ]
    assert metrics[0] is not None  # noqa: S101 - there are training images
    Report(metrics[0], metrics[1], list(fitted.warnings), versions()).write(workdir)


def fitted_by(params: FitParams, X: NDArray[np.float32], y: NDArray[np.int64]) -> Fitted:
    """The head that `params` ask for, of X (N, D) and y (N,) or (N, K)."""
    solver = SOLVERS.get(params.kind)
    if y.ndim == 2:
        check_labels(y, params.classes)
        return fit_labels(solver, X, y, params.C, params.classes)
    check_classes(y, params.classes)
    return solver(X, y, params.C)


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
    import sklearn

    from offshelf import __version__

    return {"offshelf": __version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__}


def end_with_parent(parent: int, workdir: Path) -> None:
    """Exit, and clean up, once `parent` is no longer our parent: nobody waits for the result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        shutil.rmtree(workdir, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def run_child(work: Callable[[Path], None], arguments: list[str]) -> int:
    """Do `work` as a child process; its arguments are the working directory and the parent's id."""
    workdir, parent = Path(arguments[0]), int(arguments[1])
    end_with_parent(parent, workdir)
    try:
        work(workdir)
    except RequestError as error:
        (workdir / "error.json").write_text(json.dumps(ErrorInfo.of(error).to_dict()))
        return REQUEST_ERROR_STATUS
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(run_child(fit, sys.argv[1:]))

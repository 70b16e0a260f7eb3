"""The child process that draws a low-shot curve: `python -m offshelf.heads.low_shot <workdir>`.

It reads what `heads.fit` reads, and `low_shot.json`; it trains the same kind of head on few images
of the training side, again and again, and scores each on the test. It writes `low_shot.done` (how
many heads so far) after each head, and `curve.json` last.

The draws are VISSL's low-shot protocol (Goyal et al. 2019; its VOC07 and Places205 lists): for each
number of images k and each draw, independently, k random images of every class. Where images may
have many labels each class is a problem of its own: k random positives and (K - 1) k random
negatives of it, 19 k for VOC's 20 classes, and no other image counts for that class.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.engine.memory import keep_freed_memory
from offshelf.errors import InvalidParameter
from offshelf.heads.fit import FitParams, decisions, run_child
from offshelf.heads.learn import Examples, learn
from offshelf.heads.scoring import score
from offshelf.schemas.heads import LowShot
from offshelf.schemas.learning import ChooseC
from offshelf.schemas.reports import LowShotCurve, LowShotPoint, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from offshelf.heads.interface import Fitted
    from offshelf.schemas.heads import Metrics

PLAN: Final = "low_shot.json"
CURVE: Final = "curve.json"
DONE: Final = "low_shot.done"
OF_CLASSES: Final = "k random images a class, each draw independent"
OF_LABELS: Final = (
    "for each class k random positives and (K - 1) k random negatives, each draw independent; no "
    "other image counts for that class"
)


def check_shots(plan: LowShot, labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """InvalidParameter unless the training labels, (N,) or (N, K), have enough of every class."""
    most = max(plan.shots)
    if labels.ndim == 1:
        counts = np.bincount(labels, minlength=len(classes))
        needed = "training images"
    else:
        others = max(1, len(classes) - 1)
        counts = np.minimum((labels == 1).sum(axis=0), (labels == -1).sum(axis=0) // others)
        needed = f"positive training images and {others} times as many negative ones"
    fewest = int(counts.argmin())
    if counts[fewest] < most:
        raise InvalidParameter(
            f"low_shot: {most} shots need {most} {needed} of every class; class "
            f"{classes[fewest]!r} has enough for {counts[fewest]}"
        )


def drawn(labels: NDArray[np.int64], shots: int, seed: int, draw: int) -> NDArray[np.int64]:
    """One draw from training labels (N,) or (N, K): as they are where drawn, else what drops out.

    What drops out is -1 of class numbers and 0 of labels.
    """
    generator = np.random.default_rng([seed, shots, draw])
    if labels.ndim == 1:
        chosen = np.full_like(labels, -1)
        for number in range(int(labels.max()) + 1):
            rows = generator.permutation(np.flatnonzero(labels == number))[:shots]
            chosen[rows] = number
        return chosen
    chosen = np.zeros_like(labels)
    others = max(1, labels.shape[1] - 1)
    for k in range(labels.shape[1]):
        for sign, count in ((1, shots), (-1, others * shots)):
            rows = generator.permutation(np.flatnonzero(labels[:, k] == sign))[:count]
            chosen[rows, k] = sign
    return chosen


@dataclass(frozen=True, slots=True)
class Lessons:
    """Mapped features (N, D), the labels of all rows, and which rows train and test."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    classes: Sequence[str]

    def few(
        self, plan: LowShot, shots: int, draw: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features and labels of one draw."""
        labels = drawn(self.labels[self.train], shots, plan.seed, draw)
        rows = labels >= 0 if labels.ndim == 1 else (labels != 0).any(axis=1)
        return self.features[self.train[rows]], labels[rows]

    def tested(self, head: Fitted) -> Metrics:
        """How a head does on the test."""
        metrics = score(
            self.labels[self.test], decisions(head, self.features, self.test), self.classes
        )
        if metrics is None:
            raise InvalidParameter("low_shot: the test has no label that counts")
        return metrics


def curve(
    plan: LowShot,
    lessons: Lessons,
    fit: Callable[[NDArray[np.float32], NDArray[np.int64]], Fitted],
    C: float,
    tell: Callable[[int], None] = lambda _: None,
) -> LowShotCurve:
    """Train and score every draw; `tell` is called with how many heads there are so far."""
    check_shots(plan, lessons.labels[lessons.train], lessons.classes)
    points, warnings, done = [], dict[str, None](), 0
    for shots in sorted(set(plan.shots)):
        found = []
        for draw in range(plan.draws):
            head = fit(*lessons.few(plan, shots, draw))
            warnings |= dict.fromkeys(head.warnings)
            found.append(lessons.tested(head))
            tell(done := done + 1)
        points.append(LowShotPoint(shots=shots, figures=_spreads(found)))
    return LowShotCurve(
        draws=plan.draws,
        seed=plan.seed,
        sampling=OF_CLASSES if lessons.labels.ndim == 1 else OF_LABELS,
        C=C,
        points=points,
        warnings=list(warnings),
    )


def _spreads(found: Sequence[Metrics]) -> dict[str, Spread]:
    names = ("accuracy", "mean_class_accuracy", "map_11pt", "map_all_point")
    table = {name: [getattr(metrics, name) for metrics in found] for name in names}
    return {name: spread(values) for name, values in table.items() if None not in values}


def spread(values: list[float]) -> Spread:
    """Mean and standard deviation (n - 1) of figures."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), deviation=deviation, values=values)


def fitted_by(params: FitParams, X: NDArray[np.float32], labels: NDArray[np.int64]) -> Fitted:
    """The head that `params` ask for, which name a C, of X (N, D) and labels (N,) or (N, K)."""
    none_held_out = np.zeros(0, np.int64)
    return learn(params.learning, Examples(X, labels, params.classes, none_held_out)).fitted


def work(workdir: Path) -> None:
    """Draw the curve of what is in `workdir`."""
    params = FitParams.read(workdir)
    C = params.learning.C
    if isinstance(C, ChooseC):
        raise InvalidParameter("low_shot: C is chosen by now")
    plan = LowShot.model_validate_json((workdir / PLAN).read_bytes())
    features = np.load(workdir / "X.npy", mmap_mode="r")
    labels, train, test = (np.load(workdir / f"{name}.npy") for name in ("y", "train", "test"))
    lessons = Lessons(features, labels, train, test, params.classes)

    def tell(done: int) -> None:
        (workdir / DONE).write_text(json.dumps(done))

    found = curve(plan, lessons, lambda X, y: fitted_by(params, X, y), C, tell)
    (workdir / CURVE).write_text(found.model_dump_json())


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(run_child(work, sys.argv[1:]))

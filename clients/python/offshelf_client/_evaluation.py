"""What the service reports of a head's test, and how it is read from JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from offshelf_client._errors import understood
from offshelf_client._models import read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LowShot:
    """Also train on so many images a class, `draws` times each, and score on the test."""

    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """A class whose images have no other label: fractions, None where there is nothing to divide.

    `ap` is the all-point average precision of its score. `confused_with` is the wrong class that
    its images got most often.
    """

    name: str
    images: int
    right: int
    precision: float | None
    recall: float | None
    f1: float | None
    ap: float | None
    confused_with: str | None


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """A class where images may have many; its APs are None where it has no positive image."""

    name: str
    positives: int
    negatives: int
    left_out: int
    ap_11pt: float | None
    ap_all_point: float | None


@dataclass(frozen=True, slots=True)
class Bin:
    """Probabilities in (low, high]: how many, their mean, and the share that was right."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram of equal bins, and its expected calibration error.

    `by` says where the probabilities are from: `temperature`, `platt`, or a head's `own`.
    """

    bins: tuple[Bin, ...]
    ece: float
    by: str = "own"


@dataclass(frozen=True, slots=True)
class Miss:
    """A test sample that got a wrong class; `margin` is how far that was ahead of the true one."""

    number: int
    path: str | None
    truth: str
    predicted: str
    score: float
    margin: float
    probability: float | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A test sample by the score of one class; rank 1 is the best."""

    number: int
    path: str | None
    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class LabelExtremes:
    """The positives of a class that came last, and the negatives that came first."""

    name: str
    worst_positives: tuple[Ranked, ...]
    best_negatives: tuple[Ranked, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several draws; `deviation` (n - 1) is None of one draw alone."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LowShotPoint:
    """Heads trained on `shots` images a class: their figures on the test, by metric."""

    shots: int
    figures: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class LowShotCurve:
    """Figures by the number of training images a class, and how these were drawn."""

    draws: int
    seed: int
    sampling: str
    C: float
    points: tuple[LowShotPoint, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a head did on its test, as fractions; what does not apply is None or empty.

    Of `tested` samples `unscored` had no features; the figures are of the others. `confusion` is
    (K, K) counts, a row a true class. `top_k` has accuracies by k. `interval` is the 95 % interval
    of the accuracy. Where there is no test, or no reliability diagram, `test_missing` and
    `reliability_missing` say why.
    """

    dataset: str | None = None
    tested: int = 0
    unscored: int = 0
    images: int = 0
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    mean_class_accuracy: float | None = None
    map_11pt: float | None = None
    map_all_point: float | None = None
    top_k: Mapping[int, float] = field(default_factory=dict)
    classes: tuple[ClassFigures, ...] = ()
    labels: tuple[LabelFigures, ...] = ()
    confusion: NDArray[np.int64] | None = field(default=None, compare=False)
    hardest: tuple[Miss, ...] = ()
    extremes: tuple[LabelExtremes, ...] = ()
    test_missing: str = ""
    reliability: Reliability | None = None
    reliability_missing: str = ""
    low_shot: LowShotCurve | None = None


def evaluation_of(data: Any) -> Evaluation:
    """Read a report."""
    with understood("the report on a head"):
        test = data["test"] or {}
        top_k = {int(row["k"]): float(row["accuracy"]) for row in test.get("top_k", ())}
        interval = tuple(float(end) for end in test.get("interval", ()))
        counts = test.get("confusion")
        confusion = None if counts is None else np.array(counts, np.int64)
    figures = ("images", "accuracy", "mean_class_accuracy", "map_11pt", "map_all_point")
    return read(
        Evaluation,
        data,
        **{name: test[name] for name in figures if name in test},
        interval=(interval[0], interval[1]) if interval else None,
        top_k=top_k,
        classes=tuple(read(ClassFigures, row) for row in _rows(test, "classes")),
        labels=tuple(read(LabelFigures, row) for row in _rows(test, "labels")),
        confusion=confusion,
        hardest=tuple(read(Miss, row) for row in _rows(test, "hardest")),
        extremes=tuple(_extremes(row) for row in _rows(test, "extremes")),
        reliability=_reliability(data.get("reliability")),
        low_shot=_low_shot(data.get("low_shot")),
    )


def _rows(data: Any, name: str) -> tuple[Any, ...]:
    with understood(f"the field {name}"):
        return tuple(data.get(name) or ())


def _extremes(data: Any) -> LabelExtremes:
    sides = {
        side: tuple(read(Ranked, row) for row in _rows(data, side))
        for side in ("worst_positives", "best_negatives")
    }
    return read(LabelExtremes, data, **sides)


def _reliability(data: Any) -> Reliability | None:
    if data is None:
        return None
    return read(Reliability, data, bins=tuple(read(Bin, row) for row in _rows(data, "bins")))


def _low_shot(data: Any) -> LowShotCurve | None:
    if data is None:
        return None
    points = tuple(_point(row) for row in _rows(data, "points"))
    return read(LowShotCurve, data, points=points, warnings=_rows(data, "warnings"))


def _point(data: Any) -> LowShotPoint:
    with understood("a point of a low-shot curve"):
        figures = dict(data["figures"])
    found = {name: read(Spread, one, values=_rows(one, "values")) for name, one in figures.items()}
    return read(LowShotPoint, data, figures=found)

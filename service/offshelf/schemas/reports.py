"""Reports: everything that can be told of a head's test, computed from its scores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from offshelf.schemas.base import Strict
from offshelf.schemas.heads import Head, Metrics


class TopK(Strict):
    """The share of the images whose class is among the `k` with the best scores."""

    k: int
    accuracy: float


class ClassFigures(Strict):
    """A class whose images have no other label. Fractions; None where there is nothing to divide.

    `ap` is the all-point average precision of the class's score over all images. `confused_with`
    is the wrong class that its images got most often.
    """

    name: str
    images: int
    right: int
    precision: float | None
    recall: float | None
    f1: float | None
    ap: float | None
    confused_with: str | None


class LabelFigures(Strict):
    """A class where images may have many; its APs are None where it has no positive image."""

    name: str
    positives: int
    negatives: int
    left_out: int
    ap_11pt: float | None
    ap_all_point: float | None


class Bin(Strict):
    """Probabilities in (low, high]: how many, their mean, and the share that was right."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class Reliability(Strict):
    """How far probabilities can be believed: a reliability diagram of equal bins, and its ECE.

    Of the most probable class of each image; where images may have many labels, of every pair of an
    image and a label, and `accuracy` is the share of the pairs that are positive. `by` says where
    the probabilities are from: a calibration, or a logistic regression's `own`.
    """

    bins: list[Bin]
    ece: float
    by: Literal["own", "temperature", "platt"] = "own"


class Sample(Strict):
    """A sample of the dataset: its number, and its path, None where the dataset is gone."""

    number: int
    path: str | None = None


class Miss(Sample):
    """A sample that got a wrong class. `margin` is how far that class was ahead of the true one.

    `probability` is that of the predicted class, None where the head has no probabilities.
    """

    truth: str
    predicted: str
    score: float
    margin: float
    probability: float | None


class Ranked(Sample):
    """A sample by the score of one class; `rank` 1 is the best of those that count for it."""

    score: float
    rank: int


class LabelExtremes(Strict):
    """Where the ranking of a class is worst: its last positives, and the first negatives."""

    name: str
    worst_positives: list[Ranked]
    best_negatives: list[Ranked]


class ClassTest(Strict):
    """A test of images with one label each. `confusion` has a row a true class, as counts.

    `interval` is the 95 % interval of the accuracy (Wilson), for so many images. `hardest` are the
    misses with the largest margins, that one first.
    """

    images: int
    accuracy: float
    interval: tuple[float, float]
    mean_class_accuracy: float
    top_k: list[TopK]
    classes: list[ClassFigures]
    confusion: list[list[int]]
    hardest: list[Miss]


class LabelTest(Strict):
    """A test of images that may have many labels each; `extremes` are in the classes' order."""

    images: int
    map_11pt: float
    map_all_point: float
    labels: list[LabelFigures]
    extremes: list[LabelExtremes]


class Spread(Strict):
    """A figure of several draws: mean and standard deviation (n - 1), None of one draw alone."""

    mean: float
    deviation: float | None
    values: list[float]


class LowShotPoint(Strict):
    """Heads trained on `shots` images a class: their figures on the test, by metric."""

    shots: int
    figures: dict[str, Spread]


class LowShotCurve(Strict):
    """Figures by the number of training images a class, and how these were drawn."""

    draws: int
    seed: int
    sampling: str
    C: float
    points: list[LowShotPoint]
    warnings: list[str] = []


class HeadReport(Strict):
    """A head, and its test, if there is one.

    `tested` samples were to be tested, of which `unscored` had no features; the figures are of the
    others. Where there is no `test` or no `reliability`, `test_missing` and `reliability_missing`
    say why.
    """

    head: Head
    dataset: str | None = Field(description="The dataset's name; None where it is gone.")
    training: Metrics
    tested: int = 0
    unscored: int = 0
    test: ClassTest | LabelTest | None = None
    test_missing: str = ""
    reliability: Reliability | None = None
    reliability_missing: str = ""
    low_shot: LowShotCurve | None = None

"""Heads: how they are trained, what they are, and what they say of images."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from offshelf.schemas.base import ErrorBody, Strict, WeightsBody
from offshelf.schemas.datasets import DatasetId
from offshelf.schemas.features import FeatureParams, ImageBody, TapName, WholeViewText
from offshelf.schemas.learning import Calibration, Choice, HeadKind, Learning

HEAD: Final = "head"
HEAD_ID_PREFIX: Final = "head-"  # what the ids of heads begin with, so no name does
NEWEST: Final = "latest"  # after a name and a colon: the newest version, as without either


class PredictRequest(Strict):
    """JSON body of `POST /v1/heads/{id}/predict`: the head knows every parameter."""

    images: Annotated[list[str | ImageBody], Field(description="base64, or base64 with a name.")]


class ExplicitSplit(Strict):
    """Train, validation and test images by their path in the dataset.

    Those of `val` can choose parameters; the head is trained on `train` and `val`.
    """

    train: list[str]
    test: list[str] = []
    val: list[str] = []


class RandomSplit(Strict):
    """So many random training images a class; the rest, or at most `test_per_class`, tests.

    For each class in sorted order `numpy.random.RandomState(seed).permutation` of its images
    (sorted by path) is drawn, one generator for all classes; the first `train_per_class` train.
    """

    train_per_class: Annotated[int, Field(gt=0)]
    test_per_class: Annotated[int | None, Field(gt=0)] = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class ProtocolSplit(Strict):
    """A split of the dataset's protocol, by its number from 1.

    The head trains on the split's training and validation samples and is tested on its test,
    by the protocol's rules and figures.
    """

    number: Annotated[int, Field(gt=0)]


class LowShot(Strict):
    """Also train on `shots` images a class, each `draws` times, and score every head on the test.

    Each draw is independent of all others, those of fewer images too (VISSL's low-shot protocol).
    `seed`, the shots and the number of the draw settle which images it has.
    """

    shots: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=1)] = [
        1, 2, 4, 8, 16,
    ]  # fmt: skip
    draws: Annotated[int, Field(ge=1, le=100)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class HeadRequest(FeatureParams, Learning):
    """Body of `POST /v1/heads`: exactly one tap, flattened to a vector."""

    taps: Annotated[list[TapName], Field(min_length=1, max_length=1)] = ["penultimate"]
    dataset: DatasetId
    view: WholeViewText = "center"
    name: Annotated[str, Field(max_length=200)] = ""
    split: ExplicitSplit | RandomSplit | ProtocolSplit | None = None
    low_shot: LowShot | None = None


class ClassPrecision(Strict):
    """One class of a multi-label test. APs are fractions; None where it has no positive."""

    positives: int
    negatives: int
    left_out: int
    ap_11pt: float | None
    ap_all_point: float | None


class Metrics(Strict):
    """How a head does on one side of a split, as fractions.

    Accuracies, and the recall `per_class`, are of samples with one label each; mean APs, and
    `precision` by class, of samples that may have many. What does not apply is None or empty.
    """

    images: int
    accuracy: float | None = None
    mean_class_accuracy: float | None = None
    per_class: dict[str, float] = {}
    map_11pt: float | None = None
    map_all_point: float | None = None
    precision: dict[str, ClassPrecision] = {}


class PublishedRow(Strict):
    """A row of a table of figures. `value` and `deviation` are per cent, as papers print them."""

    method: str
    value: float
    deviation: float | None = None
    metric: str
    source: str
    note: str = ""


class ProtocolReport(Strict):
    """What a protocol reports of a head on one of its splits.

    `figures` are fractions by metric, the protocol's first one first. Of `tested` samples
    `unscored` had no features: they count as wrong, or come last. `table` has our rows among the
    published ones, each beside those of its own metric only, best first.
    """

    protocol: str
    split: str
    number: int
    trained: int
    tested: int
    unscored: int
    figures: dict[str, float]
    table: list[PublishedRow]


class Head(Strict):
    """A trained head: a linear model and the FeatureSpec of the features it was trained on.

    `regions` are the parts of an image whose features stand in a row; none is the whole image.
    `C` is what it was trained with; where each class has its own, their geometric mean, and
    `choice` has them. `learning` is what was asked for.
    `version` counts the heads of a name from 1; a head without a name has none. `tags` are those
    that stand at it now.
    """

    id: str
    owner: str
    name: str
    kind: HeadKind
    C: float
    classes: list[str]
    spec: dict[str, Any]
    fingerprint: str
    weights: WeightsBody
    dataset: str
    split: dict[str, Any] | None
    train: Metrics
    test: Metrics | None
    created_s: float
    versions: dict[str, str]
    warnings: list[str] = []
    multi_label: bool = False
    regions: list[str] = []
    protocol: ProtocolReport | None = None
    learning: Learning | None = None
    choice: Choice | None = None
    calibration: Calibration | None = None
    version: int | None = None
    tags: list[str] = []


class Prediction(Strict):
    """What a head says of one image. `scores` are SVM margins or logistic probabilities.

    `probabilities` are the calibrated ones, or a logistic regression's own; others have none. They
    sum to 1 where an image has one class. `label` is that of the best score.
    """

    index: int
    name: str | None = None
    status: Literal["ok", "error"]
    label: str | None = None
    scores: dict[str, float] | None = None
    probabilities: dict[str, float] | None = None
    error: ErrorBody | None = None


class PredictAnswer(Strict):
    """The answer to `POST /v1/heads/{id}/predict`."""

    request_id: str
    head: str
    fingerprint: str
    backbone: str
    weights: WeightsBody
    predictions: list[Prediction]

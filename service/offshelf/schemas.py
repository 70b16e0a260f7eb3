"""The wire: what requests and answers look like, for the API, the workers and the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from offshelf.core.jobs import JobState
from offshelf.core.spec import Normalisation, ViewName

if TYPE_CHECKING:
    from offshelf.errors import ErrorInfo

HeadKind = Literal[
    "svm",
    "svm-hinge",
    "svm-dropout",
    "logreg",
    "logreg-ovr",
    "logreg-dropout",
    "ridge",
    "nearest-mean",
]
Encoding = Literal["float", "base64"]

# The kinds of jobs: what they make, and the key of its id in their result.
FEATURE_SET: Final = "feature_set"
HEAD: Final = "head"

# Names come back in answers, and in an error for every image: short ones, no small request
# grows into a large answer.
MAX_NAME_CHARS: Final = 64
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
DatasetId = Annotated[str, Field(max_length=80, description="The id of a dataset.")]

T = TypeVar("T")


class Strict(BaseModel):
    """A model that refuses unknown fields, so that a misspelt parameter is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureParams(Strict):
    """Which features are wanted; what every feature request, feature set and head names."""

    backbone: Annotated[
        Name | None,
        Field(description="Name of a backbone; the server's default when left out."),
    ] = None
    weights: Annotated[
        str | None,
        Field(
            pattern=r"^random:[0-9]{1,9}$",
            description="Left out: the trained weights. `random:<seed>`: seeded random ones.",
        ),
    ] = None
    taps: Annotated[
        list[Name],
        Field(min_length=1, max_length=32, description="Taps, e.g. `fc7`, `fc7:pre`, `conv5`."),
    ] = ["penultimate"]
    view: Annotated[
        ViewName,
        Field(description="`center`: the weights' preset; `warp`: DeCAF's, aspect ignored."),
    ] = "center"
    pool: Annotated[
        Name | None,
        Field(description="`none`, `avg`, `max`, `grid:N`, `grid:N:avg`; left out: the tap's own."),
    ] = None
    normalize: Normalisation = "none"


class ImageBody(Strict):
    """An image inside a JSON body."""

    data: Annotated[str, Field(description="The image file's bytes as base64.")]
    name: Annotated[str | None, Field(max_length=1024)] = None


class FeatureOptions(FeatureParams):
    """The parameters of `POST /v1/features`, whatever kind of body carries the images."""

    encoding: Annotated[
        Encoding,
        Field(description="How a JSON answer holds numbers: lists, or little-endian float32."),
    ] = "float"


class FeaturesRequest(FeatureOptions):
    """JSON body of `POST /v1/features`."""

    images: Annotated[list[str | ImageBody], Field(description="base64, or base64 with a name.")]


class PredictRequest(Strict):
    """JSON body of `POST /v1/heads/{id}/predict`: the head knows every parameter."""

    images: Annotated[list[str | ImageBody], Field(description="base64, or base64 with a name.")]


class ErrorBody(Strict):
    """Why an item failed."""

    code: str
    message: str
    retryable: bool = False

    @classmethod
    def of(cls, info: ErrorInfo) -> ErrorBody:
        """An error as it travels between processes, as a client sees it."""
        return cls(code=info.code, message=info.message, retryable=info.retryable)


class Item(Strict):
    """What became of one image: the row of the arrays that holds it, or an error."""

    index: int
    name: str | None = None
    status: Literal["ok", "error"]
    row: int | None = None
    error: ErrorBody | None = None


class WeightsBody(Strict):
    """Which weights answered. `random` is true where nothing was ever learned."""

    source: str
    label: str
    digest: str
    licence: str
    random: bool


class TapAnswer(Strict):
    """What one tap gave: the FeatureSpec that made it and, in JSON, the numbers."""

    tap: str
    fingerprint: str
    spec: dict[str, Any]
    shape: list[int]
    data: Any = None


class FeaturesAnswer(Strict):
    """The answer to a feature request."""

    request_id: str
    backbone: str
    weights: WeightsBody
    taps: dict[str, TapAnswer]
    items: list[Item]


class TapBody(Strict):
    """A tap as listed by `GET /v1/backbones`."""

    name: str
    shape: list[int]
    stride: int | None
    receptive_field: int | None
    pre: bool


class BackboneBody(Strict):
    """A backbone as listed by `GET /v1/backbones`."""

    name: str
    taps: list[TapBody]
    aliases: dict[str, str]
    preprocessing: dict[str, Any]
    classes: int
    paper: str
    weights: dict[str, Any]
    default: bool = False
    resident: list[str] = []


class WorkerBody(Strict):
    """What a live worker says of itself with every heartbeat."""

    id: str
    host: str
    pid: int
    engine: str
    device: str
    ready: bool
    detail: str = ""
    started_s: float
    beat_s: float
    default_backbone: str
    backbones: list[BackboneBody]
    images_per_s: float = 0.0
    metrics: str = ""


class DatasetItem(Strict):
    """One image of a dataset: its path in the upload, its label and its content."""

    path: str
    label: str
    sha256: str
    bytes: int


class Dataset(Strict):
    """An immutable version of a dataset; `id` is derived from its content."""

    id: str
    owner: str
    name: str
    created_s: float
    classes: list[str]
    items: list[DatasetItem]
    skipped: list[str] = []

    @property
    def labels(self) -> list[int]:
        """The class index of each item."""
        index = {name: i for i, name in enumerate(self.classes)}
        return [index[item.label] for item in self.items]


class DatasetBody(Strict):
    """A dataset as the API shows it, without its items."""

    id: str
    name: str
    created_s: float
    classes: list[str]
    counts: dict[str, int]
    total: int
    skipped: list[str]


class ExplicitSplit(Strict):
    """Train and test images by their path in the dataset."""

    train: list[str]
    test: list[str] = []


class RandomSplit(Strict):
    """So many random training images a class; the rest, or at most `test_per_class`, tests.

    For each class in sorted order `numpy.random.RandomState(seed).permutation` of its images
    (sorted by path) is drawn, one generator for all classes; the first `train_per_class` train.
    """

    train_per_class: Annotated[int, Field(gt=0)]
    test_per_class: Annotated[int | None, Field(gt=0)] = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class FeatureSetRequest(FeatureParams):
    """Body of `POST /v1/feature-sets`."""

    dataset: DatasetId


class FeatureSet(Strict):
    """Features of a dataset under one or more FeatureSpecs; rows are in shards in the store."""

    id: str
    owner: str
    dataset: str
    created_s: float
    specs: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    weights: WeightsBody
    shards: int
    total: int
    kept: list[int]
    errors: dict[int, ErrorBody]


class HeadRequest(FeatureParams):
    """Body of `POST /v1/heads`: exactly one tap, flattened to a vector."""

    taps: Annotated[list[Name], Field(min_length=1, max_length=1)] = ["penultimate"]
    dataset: DatasetId
    name: Annotated[str, Field(max_length=200)] = ""
    kind: HeadKind = "svm"
    C: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    split: ExplicitSplit | RandomSplit | None = None


class Metrics(Strict):
    """How a head does on one side of a split. Accuracies are fractions."""

    images: int
    accuracy: float
    mean_class_accuracy: float
    per_class: dict[str, float]


class Head(Strict):
    """A trained head: a linear model and the FeatureSpec of the features it was trained on."""

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


class Prediction(Strict):
    """What a head says of one image. `scores` are SVM margins or logistic probabilities."""

    index: int
    name: str | None = None
    status: Literal["ok", "error"]
    label: str | None = None
    scores: dict[str, float] | None = None
    error: ErrorBody | None = None


class PredictAnswer(Strict):
    """The answer to `POST /v1/heads/{id}/predict`."""

    request_id: str
    head: str
    fingerprint: str
    backbone: str
    weights: WeightsBody
    predictions: list[Prediction]


class JobBody(Strict):
    """A job as the API shows it."""

    id: str
    kind: str
    state: JobState
    stage: str
    created_s: float
    started_s: float | None
    finished_s: float | None
    total: int
    done: int
    failed: int
    attempts: int
    params: dict[str, Any]
    error: ErrorBody | None
    result: dict[str, Any]
    links: dict[str, str]


class Page(Strict, Generic[T]):
    """A page of a list; `after` is what to pass as `after` for the next one."""

    items: list[T]
    has_more: bool
    after: str | None = None


class Health(Strict):
    """The answer of `/readyz`: who is ready, and why anyone is not."""

    status: Literal["ready", "not_ready"]
    reasons: list[str] = []
    workers: list[dict[str, Any]] = []
    queued_images: int | None = None


class Problem(BaseModel):
    """RFC 9457 problem details, with our code, whether a retry can help, and the request id."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    request_id: str

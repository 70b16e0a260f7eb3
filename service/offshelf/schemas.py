"""The wire: what requests and answers look like, for the API, the workers and the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from offshelf.core.boxes import Box
from offshelf.core.jobs import JobState
from offshelf.core.normalisation import canonical_normalisation
from offshelf.core.spec import Merge
from offshelf.core.view import canonical_view
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable

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
TRANSFORM: Final = "transform"

# Names come back in answers, and in an error for every image: short ones, no small request
# grows into a large answer.
MAX_NAME_CHARS: Final = 64
# Of a normalisation: digests have 64 digits each.
MAX_CHAIN_CHARS: Final = 512
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
# The longest node names of torchvision's graphs have some eighty characters.
TapName = Annotated[str, Field(max_length=128)]
TapKind = Literal["vector", "tokens", "map", "other"]
DatasetId = Annotated[str, Field(max_length=80, description="The id of a dataset.")]

WEIGHTS_PATTERN: Final = r"^(random:[0-9]{1,9}|[A-Za-z0-9_.-]{1,64})$"
# Of a whitening: its matrix is in memory wherever it is used.
MAX_DIMENSIONS: Final = 4096

T = TypeVar("T")


def _canonical(read: Callable[[str], str]) -> AfterValidator:
    """Brings a text to its one form, in pydantic's way."""

    def validate(text: str) -> str:
        try:
            return read(text)
        except InvalidParameter as error:
            raise PydanticCustomError(error.code, "{why}", {"why": str(error)}) from error

    return AfterValidator(validate)


ViewText = Annotated[
    str,
    Field(
        max_length=MAX_NAME_CHARS,
        description="How an image becomes network inputs. `center`: the weights' preset; `warp`: "
        "DeCAF's, aspect ignored; `squash`: straight to the input size; `five_crop`; `ten_crop`: "
        "with mirrors; `multi_scale:256,384`: centre crops at short sides; `dense:256,384`: whole "
        "images, the network run convolutionally and its maps pooled; `razavian` or "
        "`razavian:DEG`: 16 crops and rotations. Changes follow: `+hflip`, `+vflip`, "
        "`+rotate:DEG` of the image, `+mirror`: the mirrored copy of every input as well.",
        examples=["center", "ten_crop", "dense:256,384,512+mirror"],
    ),
    _canonical(canonical_view),
]
NormalisationText = Annotated[
    str,
    Field(
        max_length=MAX_CHAIN_CHARS,
        description="`none`, or steps with commas between, in their order: `l2`, `power:P` "
        "(sign(x)|x|^P), `whiten:<id of a transform>`.",
        examples=["none", "l2", "power:0.5,l2"],
    ),
    _canonical(canonical_normalisation),
]


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
            pattern=WEIGHTS_PATTERN,
            description="Left out: the card's pinned weights. A name such as `IMAGENET1K_V2`: "
            "other published ones. `random:<seed>`: seeded random ones.",
        ),
    ] = None
    taps: Annotated[
        list[TapName],
        Field(
            min_length=1,
            max_length=32,
            description="Taps, e.g. `fc7`, `fc7:pre`, `conv5`; or any node of the network's graph "
            "as torchvision's `feature_extraction` names it, e.g. `layer3.2.relu_1`.",
        ),
    ] = ["penultimate"]
    view: ViewText = "center"
    pool: Annotated[
        Name | None,
        Field(
            description="Of maps: `none`, `avg`, `max`, `grid:N`, `pyramid:1,2,4` (maxima of "
            "cells, means with `:avg`). Left out: the tap's own; `avg` under a `dense` view, "
            "whose maps must be pooled."
        ),
    ] = None
    normalize: NormalisationText = "none"
    merge: Annotated[
        Merge,
        Field(
            description="What becomes of the inputs of a view that makes several: their `mean`, "
            "`concat` (one long vector), or `stack` (an axis of their own, each normalised for "
            "itself; a head sees it flattened)."
        ),
    ] = "mean"


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
    """Which weights answered. `random` is true where nothing was ever learned.

    `asked` is what to pass as `weights` to get them again; none for the backbone's own.
    """

    source: str
    label: str
    digest: str
    licence: str
    random: bool
    asked: str | None = None


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
    """A tap as listed by `GET /v1/backbones`.

    `kind` says what its shape is: a `vector` (D,), a `map` (C, H, W), `tokens` (T, D), or `other`,
    which cannot be pooled. `offset` is the centre of the first unit, in input pixels.
    """

    name: str
    shape: list[int]
    stride: int | None
    receptive_field: int | None
    pre: bool
    kind: TapKind
    offset: float | None = None


class VariantBody(Strict):
    """One of the sets of weights that are published for a backbone; `name` asks for it.

    `present`: the worker has the file, or another for the same place.
    """

    name: str
    top1: float | None
    licence: str
    preprocessing: dict[str, Any]
    present: bool


class Residence(Strict):
    """Where a backbone is on a device: `loading` until it can run."""

    worker: str
    host: str
    device: str
    weights: str
    bytes: int
    state: Literal["ready", "loading"]


class ResidentBody(Strict):
    """A backbone on a worker's device, as the worker tells it."""

    backbone: str
    weights: str
    bytes: int = 0
    state: Literal["ready", "loading"] = "ready"


class BackboneBody(Strict):
    """A backbone as listed by `GET /v1/backbones`."""

    name: str
    taps: list[TapBody]
    aliases: dict[str, str]
    preprocessing: dict[str, Any]
    classes: int
    class_names: list[str] = []
    paper: str
    weights: dict[str, Any]
    variants: list[VariantBody] = []
    nbytes: int | None = None
    default: bool = False
    resident: list[Residence] = []


# All backbones of a worker, as one JSON text.
BackboneList: Final = TypeAdapter(list[BackboneBody])


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
    resident: list[ResidentBody] = []
    memory_bytes: int = 0
    images_per_s: float = 0.0
    metrics: str = ""


class DatasetItem(Strict):
    """One sample of a dataset: its path in the upload, its label and its image's content.

    Under a protocol `path` is the sample's key, and several samples may share an image. `boxes`
    are the regions that its features are made of, one for each of the protocol's `regions`: None
    for one that this sample lacks. Without boxes it is the whole image. `label` is empty where a
    sample may have many.
    """

    path: str
    label: str
    sha256: str
    bytes: int
    boxes: list[Box | None] = []


class SplitCounts(Strict):
    """A split of a protocol: how many samples each side has. `val` chooses parameters."""

    name: str
    train: int
    val: int
    test: int


class DatasetProtocol(Strict):
    """By which protocol a dataset was read. `counts` are samples, or positives, a class."""

    name: str
    multi_label: bool
    metrics: list[str]
    regions: list[str]
    counts: dict[str, int]
    splits: list[SplitCounts]


class Dataset(Strict):
    """An immutable version of a dataset; `id` is derived from its content."""

    id: str
    owner: str
    name: str
    created_s: float
    classes: list[str]
    items: list[DatasetItem]
    skipped: list[str] = []
    protocol: DatasetProtocol | None = None

    @property
    def labels(self) -> list[int]:
        """The class index of each item; there is none where an item may have many labels."""
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
    protocol: DatasetProtocol | None = None


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


class ProtocolSplit(Strict):
    """A split of the dataset's protocol, by its number from 1.

    The head trains on the split's training and validation samples and is tested on its test,
    by the protocol's rules and figures.
    """

    number: Annotated[int, Field(gt=0)]


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


class TransformRequest(Strict):
    """Body of `POST /v1/transforms`: fit a PCA-whitening on the features of a feature set."""

    feature_set: Annotated[str, Field(max_length=80, description="The id of a feature set.")]
    tap: Annotated[
        Name | None, Field(description="One of its taps; may be left out where there is one.")
    ] = None
    dimensions: Annotated[
        int,
        Field(
            gt=0,
            le=MAX_DIMENSIONS,
            description="How many numbers come out: the directions that vary most.",
        ),
    ]
    epsilon: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="Added to every variance.")
    ] = 0.0
    name: Annotated[str, Field(max_length=200)] = ""


class Transform(Strict):
    """A fitted PCA-whitening: x -> matrix @ (x - mean), for features of `spec` and no others.

    `id` is the sha256 of its numbers, `step` what to write into `normalize`. `samples` features
    of `inputs` numbers became `dimensions`, which keep the part `explained` of the variance.
    """

    id: str
    owner: str
    name: str
    step: str
    feature_set: str
    tap: str
    spec: dict[str, Any]
    fingerprint: str
    inputs: int
    dimensions: int
    epsilon: float
    samples: int
    explained: float
    created_s: float
    versions: dict[str, str]


class HeadRequest(FeatureParams):
    """Body of `POST /v1/heads`: exactly one tap, flattened to a vector."""

    taps: Annotated[list[TapName], Field(min_length=1, max_length=1)] = ["penultimate"]
    dataset: DatasetId
    name: Annotated[str, Field(max_length=200)] = ""
    kind: HeadKind = "svm"
    C: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    split: ExplicitSplit | RandomSplit | ProtocolSplit | None = None


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


class SelfCheck(Strict):
    """One check of a self-test: what was measured, and up to what it passes."""

    name: str
    status: Literal["passed", "failed", "skipped"]
    measured: float | None = None
    tolerance: float | None = None
    detail: str = ""


class SelfTestReport(Strict):
    """The self-test of a backbone on a worker; `error` where it could not be run."""

    worker: str = ""
    host: str = ""
    backbone: str
    weights: str = ""
    weights_digest: str = ""
    device: str = ""
    passed: bool
    checks: list[SelfCheck] = []
    error: ErrorBody | None = None


class SelfTestAnswer(Strict):
    """The answer of `GET /v1/selftest`: a report of every live worker."""

    passed: bool
    reports: list[SelfTestReport]


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

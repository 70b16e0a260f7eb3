"""What the service tells: frozen records read from its JSON; unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, TypeVar

from offshelf_client._errors import understood

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})

T = TypeVar("T")
# `svm`: L2-regularised linear SVM of the squared hinge loss, one class against the rest;
# `svm-hinge`: of the hinge itself. `logreg`: logistic regression over all classes at once;
# `logreg-ovr`: one against the rest. `-dropout`: trained with half of the features dropped
# (DeCAF). `ridge`: least squares. `nearest-mean`: the nearest class mean, without C.
HeadKind: TypeAlias = Literal[
    "svm",
    "svm-hinge",
    "svm-dropout",
    "logreg",
    "logreg-ovr",
    "logreg-dropout",
    "ridge",
    "nearest-mean",
]
ExportKind: TypeAlias = Literal["safetensors", "python", "onnx", "onnx-full"]
State: TypeAlias = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]


def read(kind: type[T], data: Any, /, **converted: Any) -> T:
    """Make a record of JSON: `converted` first, other known fields as they stand.

    Raises UnexpectedAnswer when a field without default is missing.
    """
    with understood(f"a {kind.__name__}"):
        if not isinstance(data, Mapping):
            raise TypeError(f"an object was expected, not {type(data).__name__}")
        known = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # always dataclasses
        return kind(**{key: data[key] for key in data if key in known} | converted)


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why an image failed."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one image. `index` is its place in the call, `row` its row in the arrays.

    Where features of boxes were asked for it has `rows` rows, the first of them `row`.
    """

    index: int
    name: str | None
    status: Literal["ok", "error"]
    row: int | None = None
    error: ItemError | None = None
    rows: int | None = None

    def describe(self) -> str:
        """One line for people: which image, and what is wrong with it."""
        which = f"image {self.index}" + (f" ({self.name})" if self.name else "")
        return which + (f": {self.error.message} [{self.error.code}]" if self.error else ": ok")


@dataclass(frozen=True, slots=True)
class Weights:
    """Which weights answered. `random` is true where nothing was ever learned.

    `asked` is what to pass as `weights` to get them again; None for the backbone's own.
    """

    source: str
    label: str
    digest: str
    licence: str
    random: bool
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Tap:
    """A named place in a backbone; `pre`: `name:pre` exists too.

    `kind` says what `shape` is: `vector` (D,), `map` (C, H, W), `tokens` (T, D), or `other`.
    """

    name: str
    shape: tuple[int, ...]
    stride: int | None = None
    receptive_field: int | None = None
    pre: bool = False
    kind: str = ""
    offset: float | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the sets of weights that are published for a backbone; `name` asks for it.

    `top1` is ImageNet's, in per cent.
    """

    name: str
    top1: float | None
    licence: str
    preprocessing: dict[str, Any]
    present: bool


@dataclass(frozen=True, slots=True)
class Residence:
    """A backbone on the device of a worker. `state` is `ready`, or `loading` until it can run."""

    worker: str
    host: str
    device: str
    weights: str
    bytes: int
    state: str


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that the service can run; `weights` says among others whether they are there.

    `variants` are all published weights, those that run by default first; `nbytes` is what its
    tensors take; `class_names` are those of the logits, in order, where the service knows them.
    """

    name: str
    taps: tuple[Tap, ...]
    aliases: dict[str, str]
    preprocessing: dict[str, Any]
    classes: int
    paper: str
    weights: dict[str, Any]
    default: bool = False
    resident: tuple[Residence, ...] = ()
    variants: tuple[Variant, ...] = ()
    nbytes: int | None = None
    class_names: tuple[str, ...] = ()

    @property
    def has_weights(self) -> bool:
        """Whether the service has trained weights for it at hand."""
        return bool(self.weights.get("present"))

    def tap(self, name: str) -> Tap:
        """The tap of that name or alias; KeyError when there is none."""
        wanted = self.aliases.get(name, name)
        for tap in self.taps:
            if tap.name == wanted:
                return tap
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """One check of a self-test. `status` is `passed`, `failed` or `skipped`."""

    name: str
    status: str
    measured: float | None = None
    tolerance: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """The self-test of a backbone on one worker; `error` where it could not be run."""

    worker: str
    host: str
    backbone: str
    weights: str
    device: str
    passed: bool
    checks: tuple[SelfCheck, ...] = ()
    error: ItemError | None = None


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What every worker said; `passed` when all of them passed."""

    passed: bool
    reports: tuple[SelfTestReport, ...]


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """A split of a protocol: how many samples each side has. `val` chooses parameters."""

    name: str
    train: int
    val: int
    test: int


@dataclass(frozen=True, slots=True)
class DatasetProtocol:
    """The protocol by which a dataset was read. `regions` are parts of images, if not wholes."""

    name: str
    multi_label: bool
    metrics: tuple[str, ...]
    regions: tuple[str, ...]
    splits: tuple[SplitCounts, ...]


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not in a dataset, or whose image cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """An immutable set of labelled images. `counts` is images, or positives, by class.

    `version` counts the datasets of this name; `parent` is the one that images were added to.
    `layout` says how it was read: `folder`, or the name of a protocol. `source` is where it was
    registered, and unless `copied` its images are read there. Of the `skipped_total` files that
    were left out, or cannot be read, `skipped` has the first thousand.
    """

    id: str
    name: str
    created_s: float
    classes: tuple[str, ...]
    counts: dict[str, int]
    total: int
    skipped: tuple[SkippedFile, ...] = ()
    protocol: DatasetProtocol | None = None
    version: int = 1
    parent: str | None = None
    layout: str = "folder"
    source: str | None = None
    copied: bool = True
    bytes: int = 0
    skipped_total: int = 0


@dataclass(frozen=True, slots=True)
class TapRows:
    """The rows of a tap of a feature set: the shape of one, their type, a digest of all."""

    row_shape: tuple[int, ...]
    dtype: str
    digest: str


@dataclass(frozen=True, slots=True)
class FeatureSetInfo:
    """The card of a feature set: `rows` of the `total` images of its dataset, `failed` others.

    `specs`, `fingerprints` and `taps` are by tap; `versions` are those of the libraries that
    made it.
    """

    id: str
    dataset: str
    created_s: float
    specs: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    weights: Weights
    total: int
    rows: int
    failed: int
    taps: dict[str, TapRows] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transform:
    """A PCA-whitening fitted on a feature set; `step` is what to write into `normalize`.

    It made `dimensions` numbers of `inputs`, which keep the part `explained` of the variance of
    `samples` features, and is for features of `spec` and no others.
    """

    id: str
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


@dataclass(frozen=True, slots=True)
class RandomSplit:
    """So many random training images a class; the others, or `test_per_class` of them, test."""

    train_per_class: int
    test_per_class: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ExplicitSplit:
    """Train, test and validation images by their path in the dataset.

    Those of `val` can choose C; the head is trained on `train` and `val`.
    """

    train: tuple[str, ...]
    test: tuple[str, ...] = ()
    val: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProtocolSplit:
    """A split of the protocol that the dataset was uploaded with, by its number from 1."""

    number: int = 1


Split: TypeAlias = RandomSplit | ExplicitSplit | ProtocolSplit | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """One class of a multi-label test. APs are fractions; None where it has no positive."""

    positives: int
    negatives: int
    left_out: int
    ap_11pt: float | None
    ap_all_point: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """How a head does on one side of a split, as fractions.

    Accuracies, and the recall `per_class`, are of images with one label each; mean APs, and
    `precision` by class, of images that may have many. What does not apply is None or empty.
    """

    images: int
    accuracy: float | None = None
    mean_class_accuracy: float | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    map_11pt: float | None = None
    map_all_point: float | None = None
    precision: dict[str, ClassPrecision] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row of a table of figures. `value` and `deviation` are per cent, as papers print them."""

    method: str
    value: float
    metric: str
    source: str
    deviation: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ProtocolReport:
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
    table: tuple[PublishedRow, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """How a head did on the images it learned from and on those it did not see.

    `protocol` has the figures of a published protocol, where it was trained on a split of one.
    """

    train: Metrics
    test: Metrics | None
    protocol: ProtocolReport | None = None


@dataclass(frozen=True, slots=True)
class PathPoint:
    """One C of a search: the mean and the deviation of its scores over the folds, and each."""

    C: float
    mean: float | None
    deviation: float | None = None
    folds: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """How C was chosen: the values that were tried, by `metric` on `held_out` images.

    `score` is the chosen one's. With a C for each class they are in `by_class`.
    """

    metric: str
    held_out: str
    path: tuple[PathPoint, ...]
    score: float | None
    by_class: dict[str, float] = field(default_factory=dict)
    scores_by_class: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores become probabilities, and the ECE and NLL of held-out images before and after.

    `temperature` divides the scores before the softmax; `slopes` and `offsets` are of each class's
    sigmoid 1 / (1 + exp(-(slope f + offset))).
    """

    method: Literal["temperature", "platt"]
    held_out: str
    images: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    temperature: float | None = None
    slopes: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """The card of a trained head; `learning` is how it was asked to be trained."""

    id: str
    name: str
    kind: str
    C: float
    classes: tuple[str, ...]
    spec: dict[str, Any]
    fingerprint: str
    weights: Weights
    dataset: str
    train: Metrics
    test: Metrics | None
    created_s: float
    split: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    multi_label: bool = False
    regions: tuple[str, ...] = ()
    protocol: ProtocolReport | None = None
    learning: dict[str, Any] | None = None
    choice: Choice | None = None
    calibration: Calibration | None = None
    version: int | None = None
    tags: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """`name:version`, or the id of a head without a name."""
        return f"{self.name}:{self.version}" if self.version else self.id


@dataclass(frozen=True, slots=True)
class HeadRef:
    """Which head, in short."""

    id: str
    name: str = ""
    version: int | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.version}" if self.version else self.id


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that differs: what each head has."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class FigurePair:
    """One figure of both heads; `difference` is b - a. None where a head has no such figure."""

    side: str
    metric: str
    a: float | None
    b: float | None
    difference: float | None


@dataclass(frozen=True, slots=True)
class Significance:
    """McNemar's exact test on the test samples that both heads scored.

    `a_only` samples only head a has right, `b_only` only b; `p_value` is two-sided.
    """

    samples: int
    a_only: int
    b_only: int
    p_value: float


@dataclass(frozen=True, slots=True)
class HeadComparison:
    """Two heads side by side.

    `fair` says whether their test figures may be set against each other, `reasons` why not.
    """

    a: HeadRef
    b: HeadRef
    fair: bool
    reasons: tuple[str, ...]
    features: tuple[Difference, ...]
    training: tuple[Difference, ...]
    data: tuple[Difference, ...]
    figures: tuple[FigurePair, ...]
    significance: Significance | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a head says of one image. `scores` are SVM margins or logistic probabilities.

    `probabilities` are those of a calibrated head, or of a logistic regression; others have none.
    """

    index: int
    name: str | None
    label: str
    scores: dict[str, float]
    probabilities: dict[str, float] | None = None

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k best (label, score), best first."""
        return sorted(self.scores.items(), key=lambda pair: -pair[1])[:k]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as it was when last asked. Times are Unix seconds; counts are of its images.

    Of those done, `reused` were there already and `computed` are new, at `images_per_s`; the rest
    takes `left_s`. `search` is how far a search for C is: `done` of `total` fits, and `C`, `fold`
    and `score` of the last. None: not known.
    """

    id: str
    kind: str
    state: State
    stage: str = ""
    created_s: float = 0.0
    started_s: float | None = None
    finished_s: float | None = None
    total: int = 0
    done: int = 0
    failed: int = 0
    reused: int = 0
    computed: int = 0
    images_per_s: float | None = None
    left_s: float | None = None
    search: dict[str, Any] | None = None
    attempts: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    error: ItemError | None = None
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, good or bad."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job; `id` is where to go on after a break."""

    id: str
    data: dict[str, Any]

    @property
    def terminal(self) -> bool:
        """Whether it is the job's last event."""
        return self.data.get("state") in TERMINAL


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is: `done` of `total` (None: not known) `unit`s; `failed` are in done.

    `per_s` units come a second and the rest takes `left_s`, where the service knows.
    """

    stage: str
    done: int
    total: int | None
    failed: int = 0
    unit: Literal["images", "bytes", "fits", "settings"] = "images"
    per_s: float | None = None
    left_s: float | None = None


def weights_of(data: Any) -> Weights:
    """Read the weights block of an answer."""
    return read(Weights, data)


def item_of(data: Any, index: int, name: str | None, row: int | None) -> Item:
    """Read an item, put in its place in the whole call."""
    return read(Item, data, index=index, name=name, row=row, error=_error_of(_field(data, "error")))


def backbone_of(data: Any) -> Backbone:
    """Read a backbone."""
    taps = tuple(read(Tap, tap, shape=_tuple(tap, "shape")) for tap in _tuple(data, "taps"))
    return read(
        Backbone,
        data,
        taps=taps,
        variants=tuple(read(Variant, variant) for variant in _tuple(data, "variants")),
        resident=tuple(read(Residence, where) for where in _tuple(data, "resident")),
        class_names=_tuple(data, "class_names"),
    )


def self_test_of(data: Any) -> SelfTest:
    """Read the answer of a self-test."""
    reports = tuple(
        read(
            SelfTestReport,
            one,
            checks=tuple(read(SelfCheck, check) for check in _tuple(one, "checks")),
            error=_error_of(_field(one, "error")),
        )
        for one in _tuple(data, "reports")
    )
    return read(SelfTest, data, reports=reports)


def dataset_of(data: Any) -> Dataset:
    """Read a dataset."""
    return read(
        Dataset,
        data,
        classes=_tuple(data, "classes"),
        skipped=tuple(read(SkippedFile, file) for file in _tuple(data, "skipped")),
        protocol=_dataset_protocol(_field(data, "protocol")),
    )


def feature_set_info_of(data: Any) -> FeatureSetInfo:
    """Read the card of a feature set, or what its manifest has of it."""
    with understood("a feature set"):
        taps = {
            tap: read(TapRows, rows, row_shape=_tuple(rows, "row_shape"))
            for tap, rows in (_field(data, "taps") or {}).items()
        }
        counts = (
            {}
            if "rows" in data
            else {"rows": len(data["kept"]), "failed": len(data["errors"] or {})}
        )
    weights = weights_of(_field(data, "weights"))
    return read(FeatureSetInfo, data, weights=weights, taps=taps, **counts)


def feature_set_parts(
    data: Any,
) -> tuple[tuple[int, ...], dict[int, ItemError], tuple[int, ...]]:
    """What a manifest has of every image: those kept, the errors of others, rows a shard."""
    with understood("a feature set"):
        errors = {int(i): read(ItemError, e) for i, e in (_field(data, "errors") or {}).items()}
    return _tuple(data, "kept"), errors, _tuple(data, "shard_rows")


def transform_of(data: Any) -> Transform:
    """Read a transform."""
    return read(Transform, data)


def head_of(data: Any) -> HeadInfo:
    """Read the card of a head."""
    test = _field(data, "test")
    return read(
        HeadInfo,
        data,
        classes=_tuple(data, "classes"),
        weights=weights_of(_field(data, "weights")),
        train=_metrics(_field(data, "train")),
        test=None if test is None else _metrics(test),
        warnings=_tuple(data, "warnings"),
        regions=_tuple(data, "regions"),
        tags=_tuple(data, "tags"),
        protocol=_protocol_report(_field(data, "protocol")),
        choice=_choice(_field(data, "choice")),
        calibration=_calibration(_field(data, "calibration")),
    )


def comparison_of(data: Any) -> HeadComparison:
    """Read a comparison of two heads."""
    differences = {
        field: tuple(read(Difference, one) for one in _tuple(data, field))
        for field in ("features", "training", "data")
    }
    chance = _field(data, "significance")
    return read(
        HeadComparison,
        data,
        significance=None if chance is None else read(Significance, chance),
        a=read(HeadRef, _field(data, "a")),
        b=read(HeadRef, _field(data, "b")),
        reasons=_tuple(data, "reasons"),
        figures=tuple(read(FigurePair, one) for one in _tuple(data, "figures")),
        **differences,
    )


def job_of(data: Any) -> JobStatus:
    """Read a job."""
    return read(JobStatus, data, error=_error_of(_field(data, "error")))


def _dataset_protocol(data: Any) -> DatasetProtocol | None:
    if data is None:
        return None
    splits = tuple(read(SplitCounts, split) for split in _tuple(data, "splits"))
    names = {field: _tuple(data, field) for field in ("metrics", "regions")}
    return read(DatasetProtocol, data, splits=splits, **names)


def _metrics(data: Any) -> Metrics:
    with understood("the precision of classes"):
        precision = dict(_field(data, "precision") or {})
    by_class = {name: read(ClassPrecision, one) for name, one in precision.items()}
    return read(Metrics, data, precision=by_class)


def _protocol_report(data: Any) -> ProtocolReport | None:
    if data is None:
        return None
    table = tuple(read(PublishedRow, row) for row in _tuple(data, "table"))
    return read(ProtocolReport, data, table=table)


def _choice(data: Any) -> Choice | None:
    if data is None:
        return None
    points = _tuple(data, "path")
    path = tuple(read(PathPoint, point, folds=_tuple(point, "folds")) for point in points)
    return read(Choice, data, path=path)


def _calibration(data: Any) -> Calibration | None:
    if data is None:
        return None
    return read(Calibration, data, slopes=_tuple(data, "slopes"), offsets=_tuple(data, "offsets"))


def _error_of(data: Any) -> ItemError | None:
    return None if data is None else read(ItemError, data)


def _field(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else None


def _tuple(data: Any, name: str) -> tuple[Any, ...]:
    with understood(f"the field {name}"):
        return tuple(_field(data, name) or ())

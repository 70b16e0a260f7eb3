"""How a head is to be trained, and what is recorded of how it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, model_validator

from offshelf.errors import InvalidParameter
from offshelf.schemas.base import Strict

if TYPE_CHECKING:
    from collections.abc import Sequence

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
# Their classes are one problem together, the softmax; where images have many labels, one each.
SOFTMAX_KINDS: Final = ("logreg", "logreg-dropout")
LOGISTIC_KINDS: Final = (*SOFTMAX_KINDS, "logreg-ovr")
# As LIBLINEAR has it, their intercept is a weight like others.
REGULARISED_KINDS: Final = ("svm", "svm-hinge", "svm-dropout")
# Nothing about it can be chosen.
MEANS: Final = "nearest-mean"

Metric = Literal["accuracy", "mean_class_accuracy", "map_11pt", "map_all_point"]
OF_LABELS: Final = ("map_11pt", "map_all_point")
CPreset = Literal["kornblith", "vissl", "clip"]
CValue = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveFactor = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Calibrating = Literal["none", "temperature", "platt"]

MOST_CS: Final = 200
MOST_FOLDS: Final = 50


class ChooseC(Strict):
    """C by the scores of held-out training images; the head is then trained on all of them."""

    choose: Annotated[
        CPreset | Annotated[list[CValue], Field(min_length=1, max_length=MOST_CS)],
        Field(
            description="A list of Cs, or one of the literature by name: `kornblith` (45 values "
            "from 1e-6 to 1e5), `vissl` (11 values), `clip` (96 steps from 1e-6 to 1e6, of which "
            "a search that halves around the peak tries fifteen).",
            examples=["vissl", [0.1, 1, 10]],
        ),
    ]
    folds: Annotated[
        Annotated[int, Field(ge=2, le=MOST_FOLDS)] | Literal["val"],
        Field(
            description="So many stratified folds of the training images; or `val`: the split's "
            "own validation images are held out once."
        ),
    ] = 5
    per_class: Annotated[
        bool,
        Field(description="A C for each class, by its own scores; for one-vs-rest kinds only."),
    ] = False
    metric: Annotated[
        Metric | None,
        Field(
            description="What the held-out images are scored by. Left out: the first figure of "
            "the dataset's protocol, where a split of it is trained on; else `accuracy`."
        ),
    ] = None


class Learning(Strict):
    """How a head is trained on its features; docs/heads.md has the objectives."""

    kind: HeadKind = "svm"
    C: Annotated[
        CValue | ChooseC,
        Field(
            description="Inverse strength of the regularisation, times the sum over the images; "
            'or how to choose it: `{"choose": "vissl", "folds": 5}`.'
        ),
    ] = 1.0
    class_weight: Annotated[
        Literal["balanced"] | dict[str, PositiveFactor] | None,
        Field(
            description="Factors of the weights of images by class (of labels: of the positives); "
            "classes that are not named have 1. `balanced`: N / (K n) for n of N images in K "
            "classes; of labels, the positives of each weigh as much as its negatives."
        ),
    ] = None
    positive_weight: Annotated[
        PositiveFactor,
        Field(description="Of the positives of each one-vs-rest problem (LIBLINEAR's -w1)."),
    ] = 1.0
    standardise: Annotated[
        bool,
        Field(description="Scale features by mean and deviation over the training images."),
    ] = False
    intercept: Annotated[
        Literal["free", "regularised", "none"] | None,
        Field(description="Left out: the kind's own; docs/heads.md."),
    ] = None
    intercept_scale: Annotated[
        PositiveFactor,
        Field(description="Of a regularised intercept (LIBLINEAR's -B: 10 with R-CNN)."),
    ] = 1.0
    dropout: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="The part of the feature values that is 0 in training. Left out: the "
            "kind's own, 0.5 of those with dropout in their name.",
        ),
    ] = None
    seed: Annotated[
        int, Field(ge=0, lt=2**32, description="Of folds and dropout; splits have their own.")
    ] = 0
    calibrate: Annotated[
        Calibrating,
        Field(
            description="Probabilities by held-out scores, of the folds that choose C or else of "
            "five. `temperature`: one for all classes (Guo et al. 2017); `platt`: a sigmoid for "
            "each class (Platt 1999), over their sum where an image has one class; for labels too. "
            "Of many classes the sum is too careful, and `temperature` does better."
        ),
    ] = "none"

    @model_validator(mode="after")
    def _fits_together(self) -> Learning:
        """ValueError for what cannot be meant, whatever the dataset is."""
        regularised = self.intercept or ("regularised" if self._is_svm else "free")
        if self.intercept_scale != 1 and regularised != "regularised":
            raise ValueError(
                "intercept_scale is of a regularised intercept: say intercept=regularised too"
            )
        if self.kind == MEANS:
            self._check_means()
        choice = self.C
        if isinstance(choice, ChooseC) and isinstance(choice.choose, list):
            _check_list(choice.choose)
        return self

    @property
    def _is_svm(self) -> bool:
        return self.kind in REGULARISED_KINDS

    def _check_means(self) -> None:
        own = Learning.model_fields
        names = ("class_weight", "positive_weight", "standardise", "intercept", "dropout")
        given = [name for name in names if getattr(self, name) != own[name].default]
        if isinstance(self.C, ChooseC):
            given.insert(0, "a choice of C")
        if given:
            raise ValueError(f"{MEANS} has no use for {', '.join(given)}: it is the class means")

    def check_labels(self, classes: Sequence[str], *, multi_label: bool) -> None:
        """InvalidParameter for what does not go with the classes, or the labels, that there are."""
        unknown = set(self.class_weight or ()) - set(classes)
        if isinstance(self.class_weight, dict) and unknown:
            raise InvalidParameter(
                f"class_weight names {', '.join(sorted(unknown))}; the classes are "
                f"{', '.join(classes[:20])}{' ...' if len(classes) > 20 else ''}"
            )
        one_vs_rest = multi_label or self.kind not in (*SOFTMAX_KINDS, MEANS)
        choice = self.C if isinstance(self.C, ChooseC) else None
        if not one_vs_rest and choice is not None and choice.per_class:
            raise InvalidParameter(
                f"{self.kind} trains all classes as one problem, so it has one C; per_class is for "
                "logreg-ovr, ridge and SVMs"
            )
        if not one_vs_rest and self.positive_weight != 1:
            raise InvalidParameter(
                f"{self.kind} trains all classes as one problem, which has no positives; "
                "positive_weight is for logreg-ovr, ridge and SVMs"
            )
        if multi_label and self.calibrate == "temperature":
            raise InvalidParameter(
                "one temperature is for images of one class each; these have labels: platt"
            )
        if choice is not None and choice.metric is not None:
            if multi_label and choice.metric not in OF_LABELS:
                raise InvalidParameter(
                    f"{choice.metric} is for images of one class each; these have labels: "
                    f"{' or '.join(OF_LABELS)}"
                )
            if not multi_label and choice.metric in OF_LABELS and not one_vs_rest:
                raise InvalidParameter(
                    f"{choice.metric} is of a score a class, for labels or one-vs-rest kinds; for "
                    f"{self.kind}: accuracy or mean_class_accuracy"
                )


def _check_list(Cs: list[float]) -> None:
    if len(set(Cs)) < len(Cs):
        raise ValueError("the same C is in the list twice")


class PathPoint(Strict):
    """One C of a search: the mean of its scores over the folds, and their deviation (n - 1).

    A score a fold; None where it cannot be told. With a C for each class, the mean of the classes.
    """

    C: float
    mean: float | None
    deviation: float | None
    folds: list[float | None]


class Choice(Strict):
    """A search for C: every value that was tried, in ascending order, and what was taken.

    `held_out` is "5 folds" or "validation images"; `score` that of the chosen C, by `metric`. With
    `per_class` each class has its own in `by_class`, and `scores_by_class` has their best scores.
    """

    metric: Metric
    held_out: str
    path: list[PathPoint]
    score: float | None
    by_class: dict[str, float] = {}
    scores_by_class: dict[str, float | None] = {}


class Calibration(Strict):
    """How scores become probabilities, and what that did on the held-out images it came from.

    `temperature` divides the scores before the softmax. With `platt` the probability of class k is
    1 / (1 + exp(-(slope f + offset))), over their sum where an image has one class. The figures are
    of `images` held-out images, or of as many pairs of an image and a label: before, what the
    uncalibrated scores would say; `ece` in 15 bins of equal width, `nll` the mean over them.
    """

    method: Literal["temperature", "platt"]
    temperature: float | None = None
    slopes: list[float] = []
    offsets: list[float] = []
    held_out: str
    images: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float

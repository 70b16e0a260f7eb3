"""How right predictions are, by the exact rules of the papers and of the VOC devkit; numpy only.

Labels of one class: 1 is positive, -1 negative, and 0 does not count (VOC's "only difficult
objects"): such rows drop out for that class alone. Every score is a fraction, never per cent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

ApRule = Literal["11pt", "all"]
AP_RULES: Final[tuple[ApRule, ...]] = get_args(ApRule)
RECALL_STEPS: Final = 10  # the 11 points of VOC 2007: recall 0, 1/10, ..., 1


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The share of class indices (N,) that are right; NaN of none."""
    true = _indices(truth, None)
    said = _indices(predicted, None, len(true))
    return float(np.mean(true == said)) if len(true) else float("nan")


def class_recalls(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Floats:
    """For each class (K,), the share of its images that are right; NaN where it has none."""
    return _recalls(confusion_matrix(truth, predicted, classes))


def mean_class_accuracy(truth: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """The mean of the confusion matrix's diagonal, over the classes that have images."""
    return _mean(class_recalls(truth, predicted, classes))


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """Counts (K, K): row the true class, column the predicted one."""
    true = _indices(truth, classes)
    said = _indices(predicted, classes, len(true))
    counts: Ints = np.bincount(true * classes + said, minlength=classes * classes)
    return counts.reshape(classes, classes)


def top_k_accuracy(truth: ArrayLike, scores: ArrayLike, k: int) -> float:
    """The share of images (N,) whose class is among the `k` best of their scores (N, K).

    Of equal scores the class with the lower number comes first, as `argmax` has it. NaN of none.
    """
    table = _scores(scores, 2)
    if k < 1:
        raise InvalidParameter(f"k is {k}; top-k needs at least 1")
    true = _indices(truth, table.shape[1], len(table))
    if not len(true):
        return float("nan")
    own = np.take_along_axis(table, true[:, None], axis=1)
    before = np.arange(table.shape[1]) < true[:, None]
    rank = np.sum((table > own) | ((table == own) & before), axis=1)
    return float(np.mean(rank < k))


def average_precision(labels: ArrayLike, scores: ArrayLike, rule: ApRule) -> float:
    """AP of one class from labels (N,) in {-1, 0, 1} and scores (N,); NaN without a positive.

    "11pt" is VOC 2007's: the mean over the recalls 0, 0.1, ..., 1 of the best precision at that
    recall or beyond. "all" is VOC 2010's: the area under the precision made monotonic. Equal
    scores keep the order of the list, an image that was not scored has -inf, and rows of label 0
    drop out (VOC devkit, VOCevalcls.m and VOCap.m). Recall is compared in whole positives, so that
    no threshold is missed by a rounding.
    """
    if rule not in AP_RULES:
        raise InvalidParameter(f"no AP rule {rule!r}; there are: {', '.join(AP_RULES)}")
    ranked = _ranked(labels, scores)
    positives = int(ranked.sum())
    if positives == 0:
        return float("nan")
    found = np.cumsum(ranked)
    precision = found / np.arange(1, len(ranked) + 1)
    # The best precision at this rank or any later one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if rule == "all":
        return float(envelope[ranked].sum() / positives)
    # The first rank with found / positives >= step / 10, without the division.
    wanted = np.arange(RECALL_STEPS + 1) * positives
    reached = np.searchsorted(found * RECALL_STEPS, wanted)
    return float(np.mean(envelope[reached]))


def average_precisions(labels: ArrayLike, scores: ArrayLike, rule: ApRule) -> Floats:
    """AP of each class (K,) from labels and scores (N, K); NaN for a class without positives."""
    wanted, given = np.asarray(labels), _scores(scores, 2)
    if wanted.shape != given.shape:
        raise InvalidParameter(f"labels are {wanted.shape} and scores {given.shape}: not the same")
    columns = zip(wanted.T, given.T, strict=True)
    return np.array([average_precision(*column, rule) for column in columns], np.float64)


def mean_average_precision(labels: ArrayLike, scores: ArrayLike, rule: ApRule) -> float:
    """The mean AP over the classes that have a positive; NaN when none has."""
    return _mean(average_precisions(labels, scores, rule))


def class_precisions(truth: ArrayLike, scores: ArrayLike) -> Floats:
    """The all-point AP of each class (K,) from class indices (N,) and scores (N, K).

    It is `average_precision` of the class's images against all others, for which the places of
    its own images in the ranking are enough: hundreds of classes need no ranking each.
    """
    table = np.asarray(scores)
    _scores(table, 2)
    true = _indices(truth, table.shape[1], len(table))
    own = np.argsort(true, kind="stable")
    ends = np.searchsorted(true[own], np.arange(table.shape[1] + 1))
    columns = np.ascontiguousarray(table.T)
    return np.array(
        [_own_precision(columns[k], own[ends[k] : ends[k + 1]]) for k in range(len(columns))]
    )


def _own_precision(column: NDArray[np.generic], rows: Ints) -> float:
    """The all-point AP of the images `rows`, in ascending order, by the scores of all of them."""
    if not len(rows):
        return float("nan")
    ascending, wanted = np.sort(column), column[rows]
    before = len(column) - np.searchsorted(ascending, wanted, side="right")
    same = len(column) - np.searchsorted(ascending, wanted, side="left") - before
    for tied in np.flatnonzero(same > 1):  # equal scores keep the order of the list
        before[tied] += np.count_nonzero(column[: rows[tied]] == wanted[tied])
    precision = np.arange(1, len(rows) + 1) / (np.sort(before) + 1)
    return float(np.maximum.accumulate(precision[::-1]).mean())


@dataclass(frozen=True, slots=True)
class Reliability:
    """How sure against how right: `edges` (B + 1,) and, for each bin (B,), what fell into it.

    `confidence` and `accuracy` are means; NaN in an empty bin.
    """

    edges: Floats
    counts: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over images of |accuracy - confidence| of bins."""
        if not self.counts.any():
            return float("nan")
        gap = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gap * self.counts) / self.counts.sum())


def reliability(truth: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> Reliability:
    """Bins of equal width over the probability of the predicted class (Guo et al. 2017, eq. 3).

    `probabilities` is (N, K). Bin b holds (b/B, (b+1)/B], and the first one also 0.
    """
    table = _probabilities(probabilities, bins)
    true = _indices(truth, table.shape[1], len(table))
    return _binned(table.max(axis=1), table.argmax(axis=1) == true, bins)


def label_reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> Reliability:
    """As `reliability` where an image may have many labels: bins over the probability of a label.

    `labels` and `probabilities` are (N, K), and each pair of an image and a label counts for
    itself, but for those of label 0. `accuracy` is the share of the pairs that are positive.
    """
    wanted, table = np.asarray(labels), _probabilities(probabilities, bins)
    if wanted.shape != table.shape:
        raise InvalidParameter(f"{wanted.shape} labels and {table.shape} probabilities")
    counts = wanted != 0
    return _binned(table[counts], wanted[counts] == 1, bins)


def _probabilities(given: ArrayLike, bins: int) -> Floats:
    table = _scores(given, 2)
    if bins < 1:
        raise InvalidParameter(f"bins is {bins}; a reliability diagram needs at least 1")
    if table.size and not (table.min() >= 0 and table.max() <= 1 + 1e-6):
        raise InvalidParameter("probabilities must lie in [0, 1]; these are scores")
    return table


def _binned(sure: Floats, right: NDArray[np.bool_], bins: int) -> Reliability:
    """Means of both in each bin (b/B, (b+1)/B] of the first."""
    sure = np.minimum(sure, 1.0)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, sure) - 1, 0, bins - 1)
    counts: Ints = np.bincount(place, minlength=bins)
    confidence, hit = (
        _ratio(np.bincount(place, weights=values, minlength=bins), counts)
        for values in (sure, right.astype(np.float64))
    )
    return Reliability(edges, counts, confidence, hit)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of a single-label test: NaN where there is nothing to divide by.

    `f1` is the harmonic mean of precision and recall. `confused_with` is the wrong class that its
    images got most often, None where all are right.
    """

    name: str
    images: int
    right: int
    recall: float
    precision: float
    f1: float
    confused_with: str | None


def class_table(confusion: Ints, classes: Sequence[str]) -> tuple[ClassRow, ...]:
    """A row for each class of a confusion matrix (K, K), in the order of `classes`."""
    right = np.diag(confusion)
    recall, precision = _recalls(confusion), _ratio(right, confusion.sum(axis=0))
    f1 = _ratio(2 * right, confusion.sum(axis=0) + confusion.sum(axis=1))
    wrong = confusion - np.diag(right)
    worst = wrong.argmax(axis=1) if len(classes) else right
    return tuple(
        ClassRow(
            name=name,
            images=int(confusion[i].sum()),
            right=int(right[i]),
            recall=float(recall[i]),
            precision=float(precision[i]),
            f1=float(f1[i]),
            confused_with=classes[worst[i]] if wrong[i].any() else None,
        )
        for i, name in enumerate(classes)
    )


@dataclass(frozen=True, slots=True)
class ApRow:
    """One class of a multi-label test; both APs are NaN where it has no positive image."""

    name: str
    positives: int
    negatives: int
    left_out: int
    ap_11pt: float
    ap_all: float


def ap_table(labels: ArrayLike, scores: ArrayLike, classes: Sequence[str]) -> tuple[ApRow, ...]:
    """A row for each class from labels and scores (N, K), in the order of `classes`."""
    wanted = np.asarray(labels)
    eleven, area = (average_precisions(wanted, scores, rule) for rule in ("11pt", "all"))
    return tuple(
        ApRow(
            name=name,
            positives=int(np.sum(wanted[:, i] == 1)),
            negatives=int(np.sum(wanted[:, i] == -1)),
            left_out=int(np.sum(wanted[:, i] == 0)),
            ap_11pt=float(eleven[i]),
            ap_all=float(area[i]),
        )
        for i, name in enumerate(classes)
    )


def _ranked(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.bool_]:
    """Whether each image that counts is positive, best score first."""
    wanted, given = np.asarray(labels), _scores(scores, 1)
    if wanted.shape != given.shape:
        raise InvalidParameter(f"{wanted.shape} labels and {given.shape} scores: not the same")
    if not np.isin(wanted, (-1, 0, 1)).all():
        raise InvalidParameter("labels of a class are -1, 0 (does not count) or 1")
    counts = wanted != 0
    order = np.argsort(-given[counts], kind="stable")
    ranked: NDArray[np.bool_] = wanted[counts][order] > 0
    return ranked


def _scores(scores: ArrayLike, dimensions: int) -> Floats:
    given = np.asarray(scores, np.float64)
    if given.ndim != dimensions or (dimensions == 2 and given.shape[1] == 0):
        needed = "(N,)" if dimensions == 1 else "(N, K)"
        raise InvalidParameter(f"scores of shape {given.shape}; {needed} is needed")
    if np.isnan(given).any():
        raise InvalidParameter("scores hold NaN; give -inf to an image that was not scored")
    return given


def _indices(values: ArrayLike, classes: int | None, images: int | None = None) -> Ints:
    """Class indices (N,) as int64; InvalidParameter for anything else."""
    given = np.asarray(values)
    if given.ndim != 1 or images not in (None, len(given)):
        raise InvalidParameter(
            f"class indices of shape {given.shape}; one for each image is needed"
        )
    if not len(given):
        return given.astype(np.int64)
    if not np.issubdtype(given.dtype, np.integer):
        raise InvalidParameter(f"class indices must be integers, not {given.dtype}")
    if given.min() < 0 or (classes is not None and given.max() >= classes):
        raise InvalidParameter(
            f"class indices from {given.min()} to {given.max()}; there are {classes or 'K'} classes"
        )
    return given.astype(np.int64)


def _recalls(confusion: Ints) -> Floats:
    return _ratio(np.diag(confusion), confusion.sum(axis=1))


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    """Quotients, NaN over zero."""
    nothing = np.full(np.shape(whole), np.nan)
    quotients: Floats = np.divide(part, whole, out=nothing, where=np.asarray(whole) != 0)
    return quotients


def _mean(values: Floats) -> float:
    """The mean of what is not NaN; NaN of nothing, without numpy's warning."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")

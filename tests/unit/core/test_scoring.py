"""Scores against definitions written down anew here, and against scikit-learn where it agrees."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from offshelf.core import scoring
from offshelf.errors import InvalidParameter

# The worked example: an image of label 0 stands at rank 2 and at rank 7.
LABELS = [0, 1, -1, -1, 1, 1, 0, 1, -1]
SCORES = [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]

# Few distinct scores, so that ties are common, and images that were not scored.
labels = st.lists(
    st.tuples(
        st.sampled_from([-1, 0, 1]), st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 0.1, 0.7, 3.0])
    ),
    max_size=30,
)


def curve(rows: list[tuple[int, float]]) -> list[tuple[Fraction, Fraction]]:
    """(recall, precision) after each image that counts, in exact numbers."""
    counted = [row for row in rows if row[0] != 0]
    best_first = sorted(counted, key=lambda row: -row[1])  # Python's sort is stable
    positives = sum(label == 1 for label, _ in counted)
    points = []
    for rank in range(1, len(best_first) + 1):
        hits = sum(label == 1 for label, _ in best_first[:rank])
        points.append((Fraction(hits, positives), Fraction(hits, rank)))
    return points


def eleven_points(rows: list[tuple[int, float]]) -> float:
    """VOC 2007's AP as its devkit document defines it."""
    points = curve(rows)
    best = [
        max([precision for recall, precision in points if recall >= Fraction(t, 10)], default=0)
        for t in range(11)
    ]
    return float(Fraction(sum(best)) / 11)


def all_points(rows: list[tuple[int, float]]) -> float:
    """VOC 2010's AP: the area under the monotonic curve, with sentinels at both ends."""
    points = [(Fraction(0), Fraction(0)), *curve(rows), (Fraction(1), Fraction(0))]
    area = Fraction(0)
    for (before, _), (recall, _) in itertools.pairwise(points):
        if recall != before:
            area += (recall - before) * max(p for r, p in points if r >= recall)
    return float(area)


def columns(rows: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [label for label, _ in rows], [score for _, score in rows]


def test_the_worked_example() -> None:
    assert scoring.average_precision(LABELS, SCORES, "11pt") == pytest.approx(0.757576, abs=5e-7)
    assert scoring.average_precision(LABELS, SCORES, "all") == pytest.approx(0.75, abs=1e-15)
    # What it is not: the mean precision of scikit-learn, and difficult images as negatives.
    kept = [(label, score) for label, score in zip(LABELS, SCORES, strict=True) if label]
    mean_precision = sklearn.metrics.average_precision_score(*columns(kept))
    assert mean_precision == pytest.approx(0.691667, abs=5e-7)
    as_negatives = [label or -1 for label in LABELS]
    for rule in scoring.AP_RULES:
        assert scoring.average_precision(as_negatives, SCORES, rule) == pytest.approx(0.5)


@given(labels)
def test_both_aps_are_those_of_the_definition(rows: list[tuple[int, float]]) -> None:
    eleven = scoring.average_precision(*columns(rows), "11pt")
    area = scoring.average_precision(*columns(rows), "all")
    if all(label != 1 for label, _ in rows):
        assert math.isnan(eleven)
        assert math.isnan(area)
        return
    assert eleven == pytest.approx(eleven_points(rows), abs=1e-12)
    assert area == pytest.approx(all_points(rows), abs=1e-12)


@given(labels)
def test_rows_of_label_0_change_nothing(rows: list[tuple[int, float]]) -> None:
    kept = [row for row in rows if row[0] != 0]
    for rule in scoring.AP_RULES:
        np.testing.assert_equal(
            scoring.average_precision(*columns(rows), rule),
            scoring.average_precision(*columns(kept), rule),
        )


def test_recall_thresholds_are_not_missed_by_a_rounding() -> None:
    """Three of ten positives first: recall 0.3 is reached, though 3 * 0.1 > 0.3 in floats."""
    rows = [(1, 9.0)] * 3 + [(-1, 8.0)] * 10 + [(1, 7.0)] * 7
    recall, precision = (np.array([float(point[axis]) for point in curve(rows)]) for axis in (0, 1))
    naive = np.mean([precision[recall >= t].max() for t in np.arange(11) * 0.1])
    exact = scoring.average_precision(*columns(rows), "11pt")
    assert exact == pytest.approx((4 * 1.0 + 7 * 0.5) / 11)
    assert naive < exact


def test_equal_scores_keep_the_order_of_the_list() -> None:
    assert scoring.average_precision([1, -1], [0.5, 0.5], "all") == 1.0
    assert scoring.average_precision([-1, 1], [0.5, 0.5], "all") == 0.5


def test_an_image_that_was_not_scored_comes_last() -> None:
    assert scoring.average_precision([1, -1, 1], [-np.inf, -9.0, 2.0], "all") == pytest.approx(
        (1 + 2 / 3) / 2
    )


distinct = st.lists(
    st.tuples(st.sampled_from([-1, 1]), st.integers(-1000, 1000)),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[1],
).filter(lambda rows: any(label == 1 for label, _ in rows))


@given(distinct)
def test_all_points_is_the_envelope_of_scikit_learns_curve(rows: list[tuple[int, float]]) -> None:
    truth, scores = columns(rows)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(truth, scores, pos_label=1)
    envelope = np.array([precision[recall >= r].max() for r in recall[:-1]])
    area = float(np.sum(-np.diff(recall) * envelope))
    assert scoring.average_precision(truth, scores, "all") == pytest.approx(area, abs=1e-12)
    assert area >= sklearn.metrics.average_precision_score(truth, scores) - 1e-12


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_ap_of_a_random_falling_curve_is_scikit_learns(good: int, bad: int, seed: int) -> None:
    """Where precision never rises from one positive to the next the two definitions agree."""
    gaps = np.sort(np.random.default_rng(seed).integers(0, bad + 1, good))
    truth: list[int] = []
    for i, gap in enumerate(gaps):
        truth += [-1] * (gap * i) + [1]
    scores = -np.arange(len(truth), dtype=float)
    found = np.flatnonzero(np.array(truth) == 1)
    precision = np.arange(1, good + 1) / (found + 1)
    ours = scoring.average_precision(truth, scores, "all")
    theirs = sklearn.metrics.average_precision_score(truth, scores)
    if np.all(np.diff(precision) <= 0):
        assert ours == pytest.approx(theirs, abs=1e-12)
    else:
        assert ours > theirs


def test_map_is_over_the_classes_that_have_a_positive() -> None:
    wanted = np.array([[1, -1, 0], [-1, -1, 1], [1, 0, -1]])
    scores = np.array([[0.9, 0.5, 0.9], [0.8, 0.4, 0.1], [0.7, 0.3, 0.2]])
    np.testing.assert_allclose(
        scoring.average_precisions(wanted, scores, "all"), [(1 + 2 / 3) / 2, np.nan, 0.5]
    )
    assert scoring.mean_average_precision(wanted, scores, "all") == pytest.approx((5 / 6 + 0.5) / 2)
    assert math.isnan(scoring.mean_average_precision(-np.ones((2, 2)), np.zeros((2, 2)), "11pt"))


def test_the_ap_table_counts_what_was_left_out() -> None:
    other = [-1] * 8 + [0]
    first, second = scoring.ap_table(
        np.array([LABELS, other]).T, np.array([SCORES, SCORES]).T, ["car", "cow"]
    )
    assert (first.name, first.positives, first.negatives, first.left_out) == ("car", 4, 3, 2)
    assert (first.ap_11pt, first.ap_all) == (pytest.approx(0.7575757), pytest.approx(0.75))
    assert (second.name, second.positives, second.left_out) == ("cow", 0, 1)
    assert math.isnan(second.ap_all)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Any, Any, int]:
    """Class indices, true and predicted, and the number of classes."""
    classes, images = draw(st.integers(2, 6)), draw(st.integers(1, 40))
    indices = hnp.arrays(np.int64, images, elements=st.integers(0, classes - 1))
    return draw(indices), draw(indices), classes


@given(predictions())
def test_single_label_scores_are_those_counted_by_hand(case: tuple[Any, Any, int]) -> None:
    truth, said, classes = case
    pairs = list(zip(truth.tolist(), said.tolist(), strict=True))
    assert scoring.accuracy(truth, said) == pytest.approx(
        sum(t == p for t, p in pairs) / len(pairs)
    )
    table = scoring.confusion_matrix(truth, said, classes)
    assert table.tolist() == [[pairs.count((t, p)) for p in range(classes)] for t in range(classes)]
    of_class = [[p == c for t, p in pairs if t == c] for c in range(classes)]
    shares = [sum(hits) / len(hits) for hits in of_class if hits]
    assert scoring.mean_class_accuracy(truth, said, classes) == pytest.approx(
        sum(shares) / len(shares)
    )
    recalls = scoring.class_recalls(truth, said, classes)
    assert [bool(np.isnan(r)) for r in recalls] == [not hits for hits in of_class]


@given(predictions())
def test_single_label_scores_agree_with_scikit_learn(case: tuple[Any, Any, int]) -> None:
    truth, said, classes = case
    names = [str(c) for c in range(classes)]
    table = scoring.confusion_matrix(truth, said, classes)
    theirs = sklearn.metrics.confusion_matrix(truth, said, labels=range(classes))
    np.testing.assert_array_equal(table, theirs)
    rows = scoring.class_table(table, names)
    precision, recall, _, images = sklearn.metrics.precision_recall_fscore_support(
        truth, said, labels=range(classes), zero_division=np.nan
    )
    np.testing.assert_allclose([row.precision for row in rows], precision)
    np.testing.assert_allclose([row.recall for row in rows], recall)
    assert [row.images for row in rows] == images.tolist()


def test_the_class_table_names_the_worst_confusion() -> None:
    table = scoring.confusion_matrix([0, 0, 0, 0, 1, 2], [0, 2, 2, 1, 1, 2], 4)
    rows = scoring.class_table(table, ["ant", "bee", "cat", "dog"])
    assert [(row.name, row.images, row.right, row.confused_with) for row in rows] == [
        ("ant", 4, 1, "cat"), ("bee", 1, 1, None), ("cat", 1, 1, None), ("dog", 0, 0, None),
    ]  # fmt: skip
    assert rows[2].precision == pytest.approx(1 / 3)
    assert math.isnan(rows[3].recall)
    assert math.isnan(rows[3].precision)


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 6)),
               elements=st.integers(-2, 2)),
    st.integers(1, 7), st.randoms(use_true_random=False),
)  # fmt: skip
def test_top_k_is_membership_in_the_sorted_list(scores: Any, k: int, random: Any) -> None:
    truth = [random.randrange(scores.shape[1]) for _ in scores]
    hits = [
        t in sorted(range(scores.shape[1]), key=lambda c: (-row[c], c))[:k]
        for t, row in zip(truth, scores.tolist(), strict=True)
    ]
    assert scoring.top_k_accuracy(truth, scores, k) == pytest.approx(sum(hits) / len(hits))


def test_top_1_is_accuracy_of_argmax_ties_included() -> None:
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 1.0, 3.0]])
    truth = np.array([0, 2, 2])
    assert scoring.top_k_accuracy(truth, scores, 1) == scoring.accuracy(truth, scores.argmax(1))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.6, 0.9, 1.0]), st.booleans()),
             min_size=1, max_size=25),
    st.integers(1, 12),
)  # fmt: skip
def test_ece_is_the_weighted_gap_of_the_bins(cases: list[tuple[float, bool]], bins: int) -> None:
    """Two classes: the first has the larger probability, whose value decides the bin."""
    sure = [max(p, 1 - p) for p, _ in cases]
    table = np.array([[s, 1 - s] for s in sure])
    # Where both are equal the first class is the predicted one.
    truth = [0 if right else 1 for _, right in cases]
    expected, filled = 0.0, 0
    edges = np.linspace(0, 1, bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = [i for i, s in enumerate(sure) if low < s <= high]
        filled += len(inside)
        if inside:
            confidence = sum(sure[i] for i in inside) / len(inside)
            right = sum(cases[i][1] for i in inside) / len(inside)
            expected += abs(confidence - right) * len(inside) / len(cases)
    assert filled == len(cases)
    found = scoring.reliability(truth, table, bins)
    assert found.ece == pytest.approx(expected, abs=1e-12)
    assert found.counts.sum() == len(cases)


def test_reliability_of_a_known_case() -> None:
    table = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
    found = scoring.reliability([0, 1, 1, 1], table, 2)
    assert found.counts.tolist() == [0, 4]
    assert math.isnan(found.accuracy[0])
    assert found.accuracy[1] == pytest.approx(0.75)
    assert found.confidence[1] == pytest.approx((0.9 + 0.8 + 0.7 + 0.55) / 4)
    assert found.ece == pytest.approx(abs(0.75 - 0.7375))


def test_nothing_to_score_is_nan() -> None:
    none = np.zeros(0, np.int64)
    assert math.isnan(scoring.accuracy(none, none))
    assert math.isnan(scoring.mean_class_accuracy(none, none, 3))
    assert math.isnan(scoring.top_k_accuracy(none, np.zeros((0, 3)), 1))
    assert math.isnan(scoring.average_precision([], [], "11pt"))
    assert math.isnan(scoring.reliability(none, np.zeros((0, 3))).ece)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: scoring.accuracy([0, 1], [0]), "one for each image"),
        (lambda: scoring.accuracy([0.5], [1]), "integers, not float64"),
        (lambda: scoring.confusion_matrix([0], [2], 2), "there are 2 classes"),
        (lambda: scoring.confusion_matrix([-1], [0], 2), "from -1 to -1"),
        (lambda: scoring.average_precision([1], [math.nan], "all"), "NaN; give -inf"),
        (lambda: scoring.average_precision([2], [0.0], "all"), "-1, 0"),
        (lambda: scoring.average_precision([1, 1], [0.0], "all"), "not the same"),
        (lambda: scoring.average_precision([1], [0.0], "all-point"), "there are: 11pt, all"),
        (lambda: scoring.average_precisions([[1]], [[0.0, 1.0]], "all"), "not the same"),
        (lambda: scoring.average_precisions([1], [0.0], "all"), r"\(N, K\) is needed"),
        (lambda: scoring.top_k_accuracy([0], [[0.0]], 0), "at least 1"),
        (lambda: scoring.reliability([0], [[1.5, -0.5]]), r"\[0, 1\]"),
        (lambda: scoring.reliability([0], [[1.0]], 0), "at least 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(call: Any, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        call()


@given(
    st.lists(
        st.tuples(st.integers(0, 2), *[st.sampled_from([-math.inf, -1.5, 0.0, 0.1, 0.7, 3.0])] * 3),
        max_size=20,
    )
)
def test_the_precision_of_classes_is_that_of_each_against_the_rest(rows: Any) -> None:
    truth = np.array([row[0] for row in rows], np.int64)
    scores = np.array([row[1:] for row in rows], np.float32).reshape(-1, 3)
    signs = np.where(truth[:, None] == np.arange(3), 1, -1)
    expected = scoring.average_precisions(signs, scores, "all")
    np.testing.assert_allclose(scoring.class_precisions(truth, scores), expected, rtol=1e-12)


@given(st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.floats(0, 1)), min_size=1, max_size=30))
def test_label_reliability_is_over_the_labels_that_count(rows: Any) -> None:
    labels = np.array([[label] for label, _ in rows])
    table = np.array([[probability] for _, probability in rows])
    found = scoring.label_reliability(labels, table, 4)
    for b in range(4):
        inside = [
            (label, p)
            for label, p in rows
            if label and (b / 4 < p <= (b + 1) / 4 or (b == 0 and p == 0))
        ]
        assert found.counts[b] == len(inside)
        if inside:
            share = sum(label == 1 for label, _ in inside) / len(inside)
            assert found.accuracy[b] == pytest.approx(share)
            assert found.confidence[b] == pytest.approx(sum(p for _, p in inside) / len(inside))


def test_label_reliability_refuses_other_shapes() -> None:
    with pytest.raises(InvalidParameter, match="labels and"):
        scoring.label_reliability([[1]], [[0.5, 0.5]])
    with pytest.raises(InvalidParameter, match=r"\[0, 1\]"):
        scoring.label_reliability([[1]], [[1.5]])

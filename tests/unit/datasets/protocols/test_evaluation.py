"""A protocol's figures, and the rows of papers beside them."""

from __future__ import annotations

import numpy as np
import pytest

from offshelf.datasets.protocols.evaluation import beside, evaluate
from offshelf.datasets.protocols.interface import PROTOCOLS, Description, Item, Split
from offshelf.errors import InvalidParameter

LABELS = [0, 1, -1, -1, 1, 1, 0, 1, -1]
SCORES = [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]


def multi() -> Description:
    """The worked example, after a training image."""
    items = [Item(key=f"{n}", path=f"{n}", labels=(v,)) for n, v in enumerate([1, *LABELS])]
    return Description(
        protocol="mine",
        classes=("car",),
        multi_label=True,
        metrics=("map_11pt", "map_all_point"),
        items=tuple(items),
        splits=(Split(name="1", train=(0,), test=tuple(range(1, 10))),),
    )


def single() -> Description:
    return Description(
        protocol="mine",
        classes=("a", "b", "c"),
        multi_label=False,
        metrics=("accuracy", "mean_class_accuracy"),
        items=tuple(Item(key=f"{n}", path="x", labels=(v,)) for n, v in enumerate([0, 0, 0, 1])),
        splits=(Split(name="1", train=(), test=(3, 2, 1, 0)),),
    )


def test_the_worked_example_by_both_rules() -> None:
    data = multi()
    found = evaluate(data, data.splits[0], np.array(SCORES)[:, None])
    assert found["map_11pt"] == pytest.approx(0.757576, abs=5e-7)
    assert found["map_all_point"] == pytest.approx(0.75)


def test_accuracies_follow_the_splits_order() -> None:
    data = single()
    scores = np.eye(3)[[1, 0, 0, 2]]
    assert evaluate(data, data.splits[0], scores) == {
        "accuracy": pytest.approx(0.75), "mean_class_accuracy": pytest.approx((1 + 2 / 3) / 2),
    }  # fmt: skip


def test_an_item_that_was_not_scored_is_wrong_even_if_of_the_first_class() -> None:
    data = single()
    scores = np.eye(3)[[1, 0, 0, 0]]
    scores[3] = -np.inf
    assert evaluate(data, data.splits[0], scores)["accuracy"] == pytest.approx(0.75)


def test_scores_of_another_shape_or_a_test_without_labels_are_refused() -> None:
    data = single()
    with pytest.raises(InvalidParameter, match=r"\(2, 3\); the test of this split is \(4, 3\)"):
        evaluate(data, data.splits[0], np.zeros((2, 3)))
    with pytest.raises(InvalidParameter, match="NaN; give -inf"):
        evaluate(data, data.splits[0], np.full((4, 3), np.nan))
    with pytest.raises(InvalidParameter, match="has no label"):
        evaluate(data, Split(name="all", train=(0,)), np.zeros((0, 3)))


def test_our_row_stands_among_those_of_its_metric_best_first() -> None:
    card = PROTOCOLS.get("caltech101-decaf").card
    rows = beside(card, "alexnet fc7, SVM", "mean_class_accuracy", 86.5, 0.4)
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert [row.method for row in rows[:2]] == ["DeCAF6, SVM with dropout", "alexnet fc7, SVM"]
    assert rows[1].source == "this run"
    assert len(rows) == 11
    (alone,) = beside(card, "alexnet fc7, SVM", "accuracy", 90.0)
    assert alone.deviation is None


def test_all_point_figures_never_stand_beside_11_point_ones() -> None:
    rows = beside(PROTOCOLS.get("voc2007").card, "ours", "map_all_point", 80.0)
    assert [row.source for row in rows] == ["this run"]

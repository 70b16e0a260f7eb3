"""What a head learns from: splits of protocols, labels, and samples without features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offshelf.datasets.protocol_import import items_of, summary
from offshelf.datasets.protocols.interface import Description, Item, Split
from offshelf.datasets.taking import Taken
from offshelf.errors import InvalidParameter
from offshelf.schemas.datasets import Dataset
from offshelf.schemas.heads import HeadRequest, ProtocolSplit, RandomSplit
from offshelf.schemas.learning import Learning
from offshelf.worker.lesson import lesson_of
from offshelf.worker.reporting import report_of

# Of each image: is there a cat, is there a dog; 0 where all of them are difficult.
LABELS = [(1, -1), (-1, 1), (0, 1), (1, 0), (-1, -1), (0, 1)]


def many(difficult: str = "left out") -> Description:
    items = [Item(key=f"k{n}", path=f"{n}.jpg", labels=row) for n, row in enumerate(LABELS)]
    return Description(
        protocol="voc2007",
        classes=("cat", "dog"),
        multi_label=True,
        metrics=("map_11pt", "map_all_point"),
        difficult=difficult,  # type: ignore[arg-type]
        items=tuple(items),
        splits=(
            Split(name="train/test", train=(0, 2), val=(1,), test=(3, 4, 5)),
            Split(name="all", train=tuple(range(6))),
        ),
    )


def single() -> Description:
    return Description(
        protocol="mit67",
        classes=("bar", "zoo"),
        multi_label=False,
        metrics=("mean_class_accuracy", "accuracy"),
        items=tuple(Item(key=f"k{n}", path=f"{n}.jpg", labels=(n % 2,)) for n in range(8)),
        splits=(Split(name="official", train=(0, 1, 2), val=(3,), test=(4, 5, 6, 7)),),
    )


def dataset(description: Description) -> Dataset:
    images = {item.path: Taken(item.path, sha256="0" * 64) for item in description.items}
    return Dataset(
        id="ds-1",
        owner="default",
        name="",
        created_s=1.0,
        classes=list(description.classes),
        items=items_of(description, images),
        protocol=summary(description),
    )


FIRST = ProtocolSplit(number=1)


def request(split: ProtocolSplit | RandomSplit | None = FIRST) -> HeadRequest:
    return HeadRequest(dataset="ds-1", split=split, taps=["fc7"])


@pytest.mark.parametrize(("difficult", "label"), [("left out", 0), ("negative", -1)])
def test_difficult_objects_are_what_the_protocol_says_in_training_alone(
    difficult: str, label: int
) -> None:
    data = many(difficult)
    lesson = lesson_of(dataset(data), data, request())
    assert (lesson.train, lesson.test) == ((0, 1, 2), (3, 4, 5))
    assert lesson.labels[2].tolist() == [label, 1]
    assert lesson.labels[[3, 5]].tolist() == [[1, 0], [0, 1]]
    lesson.check(Learning())


def test_validation_samples_can_choose_and_the_protocol_s_first_figure_is_known() -> None:
    data = many("left out")
    lesson = lesson_of(dataset(data), data, request())
    assert (lesson.val, lesson.first_figure) == (data.splits[0].val, data.metrics[0])
    rows = lesson.rows(np.array([0, 1, 3, 4, 5]))  # 2 has no features
    assert (rows.train.tolist(), rows.val.tolist()) == ([0, 1], [1])


def test_a_choice_that_does_not_fit_the_split_is_refused_before_any_extraction() -> None:
    data = single()
    lesson = lesson_of(dataset(data), data, request(RandomSplit(train_per_class=2)))
    lesson.check(Learning(C={"choose": "vissl", "folds": 2}))
    with pytest.raises(InvalidParameter, match="3 folds need 3 training images of each class"):
        lesson.check(Learning(C={"choose": "vissl", "folds": 3}))
    with pytest.raises(InvalidParameter, match="this one has none; ask for a number of folds"):
        lesson.check(Learning(C={"choose": "vissl", "folds": "val"}))
    with pytest.raises(InvalidParameter, match="has one C"):
        lesson.check(Learning(kind="logreg", C={"choose": "vissl", "folds": 2, "per_class": True}))


def test_rows_are_those_of_samples_that_have_features() -> None:
    data = single()
    lesson = lesson_of(dataset(data), data, request())
    rows = lesson.rows(np.array([1, 2, 3, 4, 6, 7]))
    assert (rows.train.tolist(), rows.test.tolist()) == ([0, 1, 2], [3, 4, 5])
    assert rows.labels.tolist() == [1, 0, 1, 0, 0, 1]
    with pytest.raises(InvalidParameter, match="no training image of: bar"):
        lesson.rows(np.array([1, 3, 4]))


def test_splits_that_do_not_fit_are_refused() -> None:
    data = many()
    with pytest.raises(InvalidParameter, match="no split 3: voc2007 has 2 here, numbered from 1"):
        lesson_of(dataset(data), data, request(ProtocolSplit(number=3)))
    with pytest.raises(InvalidParameter, match="may have many labels: name a split of its proto"):
        lesson_of(dataset(data), data, request(None))
    plain = replace(dataset(single()), protocol=None)
    with pytest.raises(InvalidParameter, match="has no protocol, so no split of one"):
        lesson_of(plain, None, request())


def test_a_single_label_data_set_may_be_split_at_random_too() -> None:
    data = single()
    split = RandomSplit(train_per_class=2)
    lesson = lesson_of(dataset(data), data, request(split))
    assert (len(lesson.train), len(lesson.test)) == (4, 4)
    assert lesson.labels.tolist() == [0, 1] * 4


def test_a_sample_without_features_is_wrong_in_the_report() -> None:
    scores = np.array([[1, 0], [1, 0], [0, 1]], np.float32)  # of 4, 6 and 7; 5 has none
    kept = np.array([0, 1, 2, 3, 4, 6, 7])
    report, warnings = report_of(single(), request(), "alexnet", scores, kept)
    assert report is not None
    assert (report.trained, report.tested, report.unscored) == (4, 4, 1)
    assert report.figures == {"mean_class_accuracy": 0.75, "accuracy": 0.75}
    ours = [row for row in report.table if row.source == "this run"]
    assert [(row.method, row.value) for row in ours] == [("alexnet fc7, svm", 75.0)] * 2
    values = [row.value for row in report.table if row.metric == "mean_class_accuracy"]
    assert values == sorted(values, reverse=True)
    assert 69.0 in values
    (told,) = warnings
    assert told.startswith("no published figure compares: this copy has 2 classes (official: 67)")


def test_scores_go_to_their_samples_and_unscored_ones_come_last() -> None:
    scores = np.array([[0.9, 0.0], [-0.5, 0.7]], np.float32)  # of 3 and 5; 4 has none
    report, _ = report_of(many(), request(), "alexnet", scores, np.array([0, 1, 2, 3, 5]))
    assert report is not None
    # Cats: 3 is one, 4 is none, 5 does not count. Dogs: 5 is one, 4 is none, 3 does not count.
    assert report.figures == {"map_11pt": 1.0, "map_all_point": 1.0}
    worse, _ = report_of(
        many(), request(), "alexnet", np.array([[2.0, 0], [0, 1]], np.float32), np.array([4, 5])
    )
    assert worse is not None
    assert worse.figures["map_all_point"] == pytest.approx((0.5 + 1) / 2)


def test_a_test_without_labels_is_a_warning_and_other_heads_have_no_report() -> None:
    none = np.zeros((0, 2), np.float32)
    report, warnings = report_of(many(), request(ProtocolSplit(number=2)), "a", none, np.arange(6))
    assert report is None
    assert "the test of split all has no label" in warnings[0]
    assert report_of(single(), request(None), "a", none, np.arange(8)) == (None, [])
    assert report_of(None, request(), "a", none, np.arange(8)) == (None, [])

from __future__ import annotations

import numpy as np
import pytest

from offshelf.errors import InvalidParameter
from offshelf.heads.splits import Split, split_items
from offshelf.schemas.datasets import Dataset, DatasetItem
from offshelf.schemas.heads import ExplicitSplit, RandomSplit


def dataset(counts: dict[str, int]) -> Dataset:
    """Items are listed backwards: the order of the list must not matter to a random split."""
    items = [
        DatasetItem(path=f"{label}/{number:04d}.jpg", label=label, sha256="0" * 64, bytes=1)
        for label, count in counts.items()
        for number in reversed(range(count))
    ]
    return Dataset(id="d", owner="o", name="", created_s=0.0, classes=sorted(counts), items=items)


def paths(data: Dataset, numbers: tuple[int, ...]) -> set[str]:
    return {data.items[number].path for number in numbers}


def test_validation_images_train_too_and_are_told_apart() -> None:
    data = dataset({"a": 3, "b": 3})
    names = [item.path for item in data.items]
    split = split_items(data, ExplicitSplit(train=names[:2], val=names[3:4], test=names[5:]))
    assert (split.train, split.val, split.test) == ((0, 1, 3), (3,), (5,))
    with pytest.raises(InvalidParameter, match="in train and in val"):
        split_items(data, ExplicitSplit(train=names[:2], val=names[1:3]))
    with pytest.raises(InvalidParameter, match="in val and in test"):
        split_items(data, ExplicitSplit(train=names[:2], val=names[3:], test=names[5:]))


def test_without_a_split_everything_trains() -> None:
    assert split_items(dataset({"a": 2, "b": 1}), None) == Split((0, 1, 2), ())


def test_a_random_split_is_the_published_rule() -> None:
    data = dataset({"zebra": 5, "ant": 7, "cat": 6})
    split = split_items(data, RandomSplit(train_per_class=3, seed=2))
    # The rule of the reference figures, written down independently.
    generator = np.random.RandomState(2)
    train, test = set(), set()
    for label, count in (("ant", 7), ("cat", 6), ("zebra", 5)):
        order = generator.permutation([f"{label}/{n:04d}.jpg" for n in range(count)])
        train |= set(order[:3].tolist())
        test |= set(order[3:].tolist())
    assert (paths(data, split.train), paths(data, split.test)) == (train, test)


def test_a_known_draw_of_seed_0() -> None:
    split = split_items(dataset({"a": 10}), RandomSplit(train_per_class=4, seed=0))
    data = dataset({"a": 10})
    # numpy.random.RandomState(0).permutation(10) begins 2, 8, 4, 9.
    assert paths(data, split.train) == {f"a/{n:04d}.jpg" for n in (2, 8, 4, 9)}


def test_the_number_of_test_images_can_be_bounded() -> None:
    split = split_items(dataset({"a": 9, "b": 4}), RandomSplit(train_per_class=3, test_per_class=2))
    assert (len(split.train), len(split.test)) == (6, 3)


def test_classes_with_too_few_images_are_named() -> None:
    with pytest.raises(InvalidParameter, match="fewer than 3 images: b, c"):
        split_items(dataset({"a": 3, "b": 2, "c": 1}), RandomSplit(train_per_class=3))


def test_paths_that_are_not_there_are_named() -> None:
    with pytest.raises(InvalidParameter, match=r"a/9\.jpg"):
        split_items(dataset({"a": 1}), ExplicitSplit(train=["a/0000.jpg"], test=["a/9.jpg"]))


def test_an_image_cannot_train_and_test() -> None:
    with pytest.raises(InvalidParameter, match="in train and in test"):
        split_items(dataset({"a": 1}), ExplicitSplit(train=["a/0000.jpg"], test=["a/0000.jpg"]))


def test_an_explicit_split_is_taken_as_it_is() -> None:
    data = dataset({"a": 3})
    split = split_items(data, ExplicitSplit(train=["a/0000.jpg"], test=["a/0002.jpg"]))
    assert (paths(data, split.train), paths(data, split.test)) == ({"a/0000.jpg"}, {"a/0002.jpg"})

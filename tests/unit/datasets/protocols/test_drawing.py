"""Random splits: the same rule as a head's random split, whoever draws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from offshelf.datasets.protocols.drawing import by_class, labelled, random_split
from offshelf.heads.splits import split_items
from offshelf.schemas.datasets import Dataset, DatasetItem
from offshelf.schemas.heads import RandomSplit

sizes = st.dictionaries(
    st.sampled_from(["ant", "Bee", "cat", "dog"]), st.integers(4, 9), min_size=1
)


def test_items_of_folders_are_sorted_by_path_and_strangers_left_out() -> None:
    items = labelled(["b/x.jpg", "a/2.jpg", "in/a/1.jpg", "c/x.jpg", "x.jpg"], ["a", "b"])
    assert [(item.path, item.labels) for item in items] == [
        ("a/2.jpg", (0,)), ("b/x.jpg", (1,)), ("in/a/1.jpg", (0,)),
    ]  # fmt: skip
    assert by_class(items, [2, 1, 0], 3) == [[0, 2], [1], []]


@given(
    sizes, st.integers(1, 4), st.integers(0, 4), st.none() | st.integers(1, 3), st.integers(0, 99)
)
def test_it_is_the_split_that_a_head_would_draw(
    counts: dict[str, int], train: int, val: int, at_most: int | None, seed: int
) -> None:
    classes = sorted(counts)
    paths = [f"{name}/{i}.jpg" for name in classes for i in range(counts[name])]
    rule = RandomSplit(train_per_class=train, test_per_class=at_most, seed=seed)
    items = labelled(paths, classes)
    groups = by_class(items, range(len(items)), len(classes))
    ours = random_split(groups, rule, "1", min(val, train))
    entries = [
        DatasetItem(path=item.path, label=classes[item.labels[0]], sha256="", bytes=1)
        for item in items
    ]
    dataset = Dataset(id="", owner="", name="", created_s=0.0, classes=classes, items=entries)
    theirs = split_items(dataset, rule)
    assert (ours.fitting, ours.test) == (theirs.train, theirs.test)
    assert len(ours.val) == min(val, train) * len(classes)


def test_a_class_that_has_too_few_gives_all_that_it_has() -> None:
    rule = RandomSplit(train_per_class=5, seed=0)
    split = random_split([[0, 1, 2]], rule, "1", 2)
    assert (len(split.train), len(split.val), split.test) == (1, 2, ())

"""Which images train a head and which test it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from offshelf.core.splits import shuffled
from offshelf.errors import InvalidParameter
from offshelf.schemas.heads import ExplicitSplit, RandomSplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.schemas.datasets import Dataset


@dataclass(frozen=True, slots=True)
class Split:
    """Item numbers of a dataset, in its order. Those of `val` are among `train`."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    val: tuple[int, ...] = ()


def split_items(dataset: Dataset, split: ExplicitSplit | RandomSplit | None) -> Split:
    """Cut a dataset; no split trains on everything. InvalidParameter says what does not fit."""
    if split is None:
        return Split(tuple(range(len(dataset.items))), ())
    if isinstance(split, ExplicitSplit):
        return _explicit(dataset, split)
    return _random(dataset, split)


def _explicit(dataset: Dataset, split: ExplicitSplit) -> Split:
    index = {item.path: number for number, item in enumerate(dataset.items)}
    sides = {"train": split.train, "val": split.val, "test": split.test}
    unknown = [path for paths in sides.values() for path in paths if path not in index]
    if unknown:
        raise InvalidParameter(f"the split names images that are not there: {_some(unknown)}")
    for one, other in combinations(sides, 2):
        both = sorted(set(sides[one]) & set(sides[other]))
        if both:
            raise InvalidParameter(f"the split has these in {one} and in {other}: {_some(both)}")
    train, val, test = ({index[path] for path in paths} for paths in sides.values())
    return Split(tuple(sorted(train | val)), tuple(sorted(test)), tuple(sorted(val)))


def _random(dataset: Dataset, split: RandomSplit) -> Split:
    """As `schemas.RandomSplit` documents it: one generator, the classes in sorted order."""
    by_class: dict[str, list[tuple[str, int]]] = {name: [] for name in sorted(dataset.classes)}
    for number, item in enumerate(dataset.items):
        by_class[item.label].append((item.path, number))
    short = [name for name, items in by_class.items() if len(items) < split.train_per_class]
    if short:
        raise InvalidParameter(
            f"classes with fewer than {split.train_per_class} images: {_some(short)}"
        )
    train: list[int] = []
    test: list[int] = []
    numbers = [[number for _, number in sorted(items)] for items in by_class.values()]
    for drawn in shuffled(numbers, split.seed):
        rest = drawn[split.train_per_class :]
        train += drawn[: split.train_per_class]
        test += rest[: split.test_per_class]
    return Split(tuple(sorted(train)), tuple(sorted(test)))


def _some(names: Sequence[str], most: int = 10) -> str:
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"

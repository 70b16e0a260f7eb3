"""Items of labelled folders, and random splits of them by the one rule of `RandomSplit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.core.splits import shuffled
from offshelf.datasets.protocols.interface import Item, Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from offshelf.schemas.heads import RandomSplit


def labelled(paths: Iterable[str], classes: Sequence[str]) -> list[Item]:
    """Items of the paths `.../<class>/<image>`, by path; those of other folders are left out."""
    index = {name: number for number, name in enumerate(classes)}
    named = ((path, path.split("/")) for path in sorted(paths))
    return [
        Item(key=path, path=path, labels=(index[parts[-2]],))
        for path, parts in named
        if len(parts) > 1 and parts[-2] in index
    ]


def by_class(items: Sequence[Item], numbers: Iterable[int], classes: int) -> list[list[int]]:
    """The numbers of each class's items, in the order of their paths."""
    groups: list[list[int]] = [[] for _ in range(classes)]
    for number in sorted(numbers, key=lambda i: items[i].path):
        groups[items[number].labels[0]].append(number)
    return groups


def random_split(
    groups: Sequence[Sequence[int]], rule: RandomSplit, name: str, val_per_class: int = 0
) -> Split:
    """Draw from each class (groups in sorted order of names) as `schemas.RandomSplit` documents.

    Of the `train_per_class` that are drawn first, the last `val_per_class` are for validation; so
    train and val together are what the rule calls training images. A class that has too few gives
    all that it has.
    """
    train: list[int] = []
    val: list[int] = []
    test: list[int] = []
    for drawn in shuffled(groups, rule.seed):
        chosen, rest = drawn[: rule.train_per_class], drawn[rule.train_per_class :]
        kept = len(chosen) - min(val_per_class, len(chosen))
        train += chosen[:kept]
        val += chosen[kept:]
        test += rest[: rule.test_per_class]
    return Split(
        name=name, train=tuple(sorted(train)), val=tuple(sorted(val)), test=tuple(sorted(test))
    )

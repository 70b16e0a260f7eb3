"""The draw behind every random split, in one place, so that a seed means the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def shuffled(groups: Iterable[Sequence[int]], seed: int) -> list[list[int]]:
    """Each group in random order: one generator for all of them, one permutation a group.

    `schemas.RandomSplit` has the rule: the groups are the classes in sorted order, and the numbers
    of a group stand in the order of their images' paths. The legacy generator on purpose: its
    stream is frozen, and published splits are drawn by it.
    """
    generator = np.random.RandomState(seed)
    return [[group[i] for i in generator.permutation(len(group))] for group in groups]

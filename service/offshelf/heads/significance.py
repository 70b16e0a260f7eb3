"""Whether one of two heads is better by more than chance: McNemar's exact test."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

from offshelf.errors import UnknownName
from offshelf.schemas.registry import Significance
from offshelf.store import layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offshelf.schemas.heads import Head
    from offshelf.store.interface import Store


def significance(store: Store, a: Head, b: Head) -> Significance | None:
    """The test on the samples that both heads scored, by the scores that are on record.

    None where one has none on record, where they are of other samples, or where a sample may have
    many labels: then there is no right or wrong.
    """
    records = [_record(store, card) for card in (a, b)]
    if a.dataset != b.dataset or records[0] is None or records[1] is None:
        return None
    ours, theirs = _right(records[0]), _right(records[1])
    both = sorted(ours.keys() & theirs.keys())
    if not both or any(ours[number][1] != theirs[number][1] for number in both):
        return None
    return mcnemar(
        np.array([ours[number][0] for number in both]),
        np.array([theirs[number][0] for number in both]),
    )


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Significance:
    """Of what each head has right (N,), two-sided and exact (McNemar, Psychometrika 1947).

    Where neither is better, a sample that only one has right is as likely to be either's: the
    fewer of them are binomial with one half, and the p-value is twice that tail, at most 1.
    """
    a_only, b_only = int((a & ~b).sum()), int((b & ~a).sum())
    uneven, fewer = a_only + b_only, min(a_only, b_only)
    tail = sum(math.comb(uneven, k) for k in range(fewer + 1))
    p_value = min(1.0, float(2 * tail / (1 << uneven)))
    return Significance(samples=len(a), a_only=a_only, b_only=b_only, p_value=p_value)


def _record(store: Store, card: Head) -> dict[str, NDArray[np.generic]] | None:
    """The test scores, truths and item numbers of a head with one label a sample."""
    try:
        data = store.get(layout.head_evaluation(card.owner, card.id))
    except UnknownName:
        return None
    found: dict[str, NDArray[np.generic]] = safetensors.numpy.load(data)
    return found if found["truth"].ndim == 1 else None


def _right(record: dict[str, NDArray[np.generic]]) -> dict[int, tuple[bool, int]]:
    """By item number, whether it was right, and the truth; without samples that had no features."""
    scores, truth = record["scores"], record["truth"]
    scored = np.isfinite(scores).any(axis=1)
    right = scores.argmax(axis=1) == truth
    columns = (record["numbers"][scored], right[scored], truth[scored])
    return {int(n): (bool(r), int(t)) for n, r, t in zip(*columns, strict=True)}

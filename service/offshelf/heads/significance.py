"""Whether one of two heads is better by more than chance: McNemar's exact test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.errors import UnknownName
from offshelf.heads.evaluation import record
from offshelf.schemas.registry import Significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offshelf.heads.evaluation.record import Evaluation
    from offshelf.schemas.heads import Head
    from offshelf.store.interface import Store


def significance(store: Store, a: Head, b: Head) -> Significance | None:
    """The test on the samples that both heads scored, by the scores that are on record.

    None where one has none on record, where they are of other samples, or where a sample may have
    many labels: then there is no right or wrong.
    """
    if a.dataset != b.dataset:
        return None
    one, other = (_evaluation(store, card) for card in (a, b))
    if one is None or other is None:
        return None
    ours, theirs = _right(one), _right(other)
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
    ways = tail = 1  # whole numbers, each from the one before: of 20,000 samples in moments
    for k in range(fewer):
        ways = ways * (uneven - k) // (k + 1)
        tail += ways
    p_value = min(1.0, 2 * tail / (1 << uneven))
    return Significance(samples=len(a), a_only=a_only, b_only=b_only, p_value=p_value)


def _evaluation(store: Store, card: Head) -> Evaluation | None:
    """The test scores of a head with one label a sample, of the samples that have any."""
    try:
        found = record.load(store, card.owner, card.id)
    except UnknownName:
        return None
    return None if found.multi_label else found.scored()


def _right(found: Evaluation) -> dict[int, tuple[bool, int]]:
    """By item number, whether it was right, and the truth."""
    right = found.scores.argmax(axis=1) == found.truth
    columns = (found.numbers, right, found.truth)
    return {int(n): (bool(r), int(t)) for n, r, t in zip(*columns, strict=True)}

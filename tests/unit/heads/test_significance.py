from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from offshelf.heads.evaluation import record
from offshelf.heads.evaluation.record import Evaluation
from offshelf.heads.significance import mcnemar, significance
from offshelf.store.objects import ObjectStore
from tests.unit.heads.cards import OWNER, card

TRUTH = np.array([0, 1, 2, 0, 1, 2])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_the_p_value_is_scipy_s_binomial(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs, bool).reshape(-1, 2).T
    told = mcnemar(a, b)
    assert (told.samples, told.a_only, told.b_only) == (
        len(pairs), sum(x > y for x, y in pairs), sum(y > x for x, y in pairs),
    )  # fmt: skip
    uneven = told.a_only + told.b_only
    expected = binomtest(told.a_only, uneven, 0.5).pvalue if uneven else 1.0
    assert told.p_value == pytest.approx(expected)


def keep(store: ObjectStore, head_id: str, said: list[int], numbers: list[int]) -> None:
    """Scores on record: one-hot rows of what was said, -1 for a sample without features."""
    scores = np.array([np.eye(3)[k] if k >= 0 else [-np.inf] * 3 for k in said], np.float32)
    record.save(
        store, OWNER, head_id, Evaluation("ds-1", scores, TRUTH[: len(said)], np.array(numbers))
    )


def test_tens_of_thousands_of_samples_are_counted_exactly() -> None:
    a = np.arange(40_000) % 2 == 0
    a[:300] = True
    told = mcnemar(a, ~a)
    expected = binomtest(told.a_only, len(a), 0.5).pvalue
    assert told.p_value == pytest.approx(expected, rel=1e-9)
    assert 0.1 < told.p_value < 0.2


def test_only_what_both_heads_scored_counts() -> None:
    store = ObjectStore.open("memory://")
    a, b = card("head-1"), card("head-2")
    assert significance(store, a, b) is None
    keep(store, "head-1", [0, 1, 2, 0, 0, -1], [10, 11, 12, 13, 14, 15])
    assert significance(store, a, b) is None
    keep(store, "head-2", [0, 2, 1, 1, 1, 2], [10, 11, 12, 13, 14, 15])
    told = significance(store, a, b)
    assert told is not None
    assert (told.samples, told.a_only, told.b_only) == (5, 3, 1)
    assert significance(store, a, card("head-2", dataset="ds-2")) is None

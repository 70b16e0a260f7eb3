"""The hardest samples, against plain loops over sorted lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offshelf.heads.evaluation import hardest
from offshelf.heads.evaluation.record import Evaluation

NAMES = ["ant", "bee", "cow"]
seeds = st.integers(0, 10_000)
# Few distinct scores, so that ties are common.
values = st.sampled_from([-1.0, 0.0, 0.5, 2.0])


def path(number: int) -> str:
    return f"{number}.jpg"


@given(
    st.lists(st.tuples(st.integers(0, 2), values, values, values), max_size=12), st.integers(1, 5)
)
def test_misses_are_sorted_by_how_far_the_wrong_class_is_ahead(rows, most: int) -> None:  # type: ignore[no-untyped-def]
    scores = np.array([row[1:] for row in rows], np.float32).reshape(-1, 3)
    truth = np.array([row[0] for row in rows], np.int64)
    made = Evaluation("d", scores, truth, np.arange(len(rows)) + 100)
    expected = []
    for at, (true, *given_) in enumerate(rows):
        best = given_.index(max(given_))
        if best != true:
            expected.append((-(given_[best] - given_[true]), at, NAMES[true], NAMES[best]))
    found = hardest.misses(made, NAMES, path, None, most)
    told = [(-m.margin, m.number - 100, m.truth, m.predicted) for m in found]
    assert told == sorted(expected)[:most]
    assert all(m.path == path(m.number) and m.probability is None for m in found)


def test_a_miss_tells_the_probability_of_what_was_said() -> None:
    made = Evaluation("d", np.array([[3, 1, 2]], np.float32), np.array([1]), np.array([7]))
    (miss,) = hardest.misses(made, NAMES, lambda _: None, np.array([[0.7, 0.1, 0.2]]))
    assert (miss.number, miss.path, miss.predicted, miss.score, miss.margin) == (
        7,
        None,
        "ant",
        3,
        2,
    )
    assert miss.probability == 0.7


@given(
    st.lists(st.tuples(st.sampled_from([-1, 0, 1]), values), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_extremes_are_the_ends_of_the_ranking(rows, most: int) -> None:  # type: ignore[no-untyped-def]
    labels = np.array([[label] for label, _ in rows])
    scores = np.array([[score] for _, score in rows], np.float32)
    made = Evaluation("d", scores, labels, np.arange(len(rows)) + 10)
    (found,) = hardest.extremes(made, ["ant"], path, most)
    ranking = sorted((n for n, (label, _) in enumerate(rows) if label), key=lambda n: -rows[n][1])
    told = [(r.number - 10, r.rank, r.score) for r in found.worst_positives]
    worst = [(n, rank, rows[n][1]) for rank, n in enumerate(ranking, 1) if rows[n][0] == 1]
    assert told == worst[::-1][:most]
    told = [(r.number - 10, r.rank, r.score) for r in found.best_negatives]
    best = [(n, rank, rows[n][1]) for rank, n in enumerate(ranking, 1) if rows[n][0] == -1]
    assert told == best[:most]

"""Evaluations come back from the store as they were, whatever their labels are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.errors import DependencyError, UnknownName
from offshelf.heads.evaluation import record
from offshelf.heads.evaluation.record import Evaluation, evaluation_of
from offshelf.schemas.reports import LowShotCurve, LowShotPoint, Spread
from offshelf.store.objects import ObjectStore

CURVE = LowShotCurve(
    draws=2, seed=3, sampling="some <way>", C=1.0,
    points=[
        LowShotPoint(
            shots=4, figures={"accuracy": Spread(mean=0.5, deviation=None, values=[0.5])}
        )
    ],
)  # fmt: skip


@given(st.integers(0, 6), st.integers(2, 4), st.booleans(), st.sampled_from([None, CURVE]))
def test_what_is_packed_comes_back(
    images: int, classes: int, many: bool, curve: LowShotCurve | None
) -> None:
    rng = np.random.default_rng(images)
    truth = rng.integers(-1, 2, (images, classes)) if many else rng.integers(0, classes, images)
    scores = rng.normal(size=(images, classes)).astype(np.float32)
    numbers = rng.permutation(100)[:images]
    back = Evaluation.unpack(Evaluation("ds-1", scores, truth, numbers, curve).pack())
    assert (back.dataset, back.low_shot, back.multi_label) == ("ds-1", curve, many)
    pairs = ((back.scores, scores), (back.truth, truth), (back.numbers, numbers))
    for found, given_ in pairs:
        np.testing.assert_array_equal(found, given_)
        assert found.dtype == given_.dtype


def test_samples_without_features_have_rows_but_no_scores() -> None:
    labels = np.array([0, 1, 0, 1, 1])
    scores = np.array([[1, 2], [4, 3]], np.float32)  # of 1 and 4; 3 has none
    made = evaluation_of("ds-1", labels, (1, 3, 4), np.array([0, 1, 2, 4]), scores)
    assert made is not None
    assert made.numbers.tolist() == [1, 3, 4]
    assert made.truth.tolist() == [1, 1, 1]
    assert made.scores.tolist() == [[1, 2], [-np.inf, -np.inf], [4, 3]]
    assert made.scored().numbers.tolist() == [1, 4]
    assert made.scored().scores.tolist() == scores.tolist()
    assert evaluation_of("ds-1", labels, (), np.arange(5), scores[:0]) is None


def test_unpublished_labels_are_no_truth() -> None:
    scores, numbers = np.zeros((2, 3), np.float32), np.arange(2)
    assert not Evaluation("d", scores, np.zeros((2, 3), np.int64), numbers).has_truth
    assert Evaluation("d", scores, np.eye(3, dtype=np.int64)[:2], numbers).has_truth
    assert Evaluation("d", scores, np.zeros(2, np.int64), numbers).has_truth
    assert not Evaluation("d", scores[:0], np.zeros(0, np.int64), numbers[:0]).has_truth


def test_one_is_kept_beside_its_head_and_never_written_over() -> None:
    store = ObjectStore.open("memory://")
    first = Evaluation("d", np.ones((1, 2), np.float32), np.array([1]), np.array([7]))
    other = Evaluation("d", np.zeros((1, 2), np.float32), np.array([1]), np.array([7]))
    record.save(store, "o", "h", None)
    with pytest.raises(UnknownName, match="'h' has no evaluation"):
        record.load(store, "o", "h")
    record.save(store, "o", "h", first)
    record.save(store, "o", "h", other)
    assert record.load(store, "o", "h").scores.tolist() == [[1, 1]]


@pytest.mark.parametrize("data", [b"", b"no tensors at all", bytes(200)])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DependencyError, match="not an evaluation"):
        Evaluation.unpack(data)

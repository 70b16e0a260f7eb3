from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.errors import DependencyError, UnknownName
from offshelf.heads.features import Shard, read_matrix
from offshelf.schemas.base import ErrorBody
from offshelf.store import layout
from tests.unit.worker.fakes import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

ERROR = ErrorBody(code="invalid_image", message="torn")


def shard(first: int, good: int, bad: int = 0, side: int = 3) -> Shard:
    rows = np.arange(good * 2 * side, dtype=np.float32).reshape(good, 2, side) + first
    kept = np.arange(first, first + good)
    return Shard(rows, kept, {first + good + n: ERROR for n in range(bad)})


def stored(*shards: Shard) -> MemoryStore:
    store = MemoryStore()
    for index, one in enumerate(shards):
        store.put_new(layout.shard("d", "f", index), one.pack())
    return store


def test_a_shard_comes_out_as_it_went_in() -> None:
    back = Shard.unpack(shard(4, 2, 1).pack())
    np.testing.assert_array_equal(back.rows, shard(4, 2, 1).rows)
    assert (back.kept.tolist(), back.errors) == ([4, 5], {6: ERROR})


def test_the_matrix_has_every_good_row_flat_and_every_error(tmp_path: Path) -> None:
    empty = Shard(np.zeros(0, np.float32), np.zeros(0, np.int64), {5: ERROR})
    store = stored(shard(0, 4, 1), empty, shard(6, 2))
    matrix = read_matrix(store, "d", "f", 3, 8, tmp_path / "X.npy")
    assert matrix.rows.shape == (6, 6)
    np.testing.assert_array_equal(matrix.rows[4:], shard(6, 2).rows.reshape(2, 6))
    assert matrix.kept.tolist() == [0, 1, 2, 3, 6, 7]
    assert set(matrix.errors) == {4, 5}
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy")[:6], matrix.rows)


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        read_matrix(stored(shard(0, 4)), "d", "f", 2, 8, tmp_path / "X.npy")


def test_shards_of_different_widths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="do not fit"):
        read_matrix(stored(shard(0, 4), shard(4, 2, side=5)), "d", "f", 2, 8, tmp_path / "X.npy")

"""What a feature shard holds and where in its object, read without its rows."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf.heads.features import told_of
from offshelf.schemas.base import ErrorBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from offshelf.store.interface import Store

# Header and numbers of the shard of a usual job are in so many bytes: one read.
GUESS_BYTES: Final = 16 << 10
ROW_BYTES: Final = 4  # of a float32
KEPT_BYTES: Final = 8  # of an int64


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A shard without its rows.

    `kept` (n,) are item numbers, `kept_at` and `rows_at` where their bytes and those of the rows
    begin in the object, `row_shape` the shape of a row (None without rows), `sha256` that of the
    rows' bytes.
    """

    kept: NDArray[np.int64]
    errors: Mapping[int, ErrorBody]
    row_shape: tuple[int, ...] | None
    kept_at: int
    rows_at: int
    sha256: str


def read_index(store: Store, key: str) -> ShardIndex:
    """The index of a shard of safetensors, as `heads.features.Shard` packs it.

    UnknownName when there is none.
    """
    data = store.get_range(key, 0, GUESS_BYTES)
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < start:
        data = store.get_range(key, 0, start)
    header: dict[str, Any] = json.loads(data[8:start])
    kept_at, kept_end = (start + at for at in header["kept"]["data_offsets"])
    rows_at = start + header["rows"]["data_offsets"][0]
    kept = data[kept_at:kept_end]
    if len(kept) < kept_end - kept_at:
        kept = store.get_range(key, kept_at, kept_end - kept_at)
    shape: list[int] = header["rows"]["shape"]
    told = told_of(header["__metadata__"])
    return ShardIndex(
        kept=np.frombuffer(kept, "<i8").astype(np.int64),
        errors={int(n): ErrorBody(**error) for n, error in told["errors"].items()},
        row_shape=tuple(shape[1:]) if shape[0] else None,
        kept_at=kept_at,
        rows_at=rows_at,
        sha256=told.get("sha256") or _digest(store, key, rows_at, shape),
    )


def _digest(store: Store, key: str, rows_at: int, shape: list[int]) -> str:
    """Of the rows of a shard that was written before shards told it."""
    return hashlib.sha256(store.get_range(key, rows_at, ROW_BYTES * math.prod(shape))).hexdigest()

"""Feature shards: what a bulk extraction writes, and the matrix that training reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy

from offshelf.errors import DependencyError, UnknownName
from offshelf.schemas.base import ErrorBody
from offshelf.schemas.feature_sets import FeatureSet
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from offshelf.store.interface import Store


@dataclass(frozen=True, slots=True)
class Shard:
    """A run of a dataset's items under one FeatureSpec.

    `rows` is (n, ...) float32 for the items that went well, `kept` (n,) their numbers in the
    dataset, `errors` what happened to the others, by number.
    """

    rows: NDArray[np.float32]
    kept: NDArray[np.int64]
    errors: Mapping[int, ErrorBody] = field(default_factory=dict)

    def pack(self) -> bytes:
        """As safetensors: `rows`, `kept`; in the metadata errors as JSON, and the rows' sha256."""
        errors = {str(index): error.model_dump() for index, error in self.errors.items()}
        rows = np.ascontiguousarray(self.rows, np.float32)
        tensors: dict[str, NDArray[Any]] = {"rows": rows, "kept": self.kept}
        # One entry: safetensors writes several in any order, and equal shards have equal bytes.
        told = {"errors": errors, "sha256": hashlib.sha256(rows.data).hexdigest()}
        metadata = {"shard": json.dumps(told, sort_keys=True)}
        return bytes(safetensors.numpy.save(tensors, metadata=metadata))

    @classmethod
    def unpack(cls, data: bytes) -> Shard:
        """Inverse of `pack`."""
        tensors = safetensors.numpy.load(data)
        errors = told_of(read_metadata(data))["errors"]
        known = {int(index): ErrorBody(**error) for index, error in errors.items()}
        return cls(tensors["rows"], tensors["kept"], known)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Features of a whole dataset: rows (N, D), the item number of each, errors by number."""

    rows: NDArray[np.float32]
    kept: NDArray[np.int64]
    errors: Mapping[int, ErrorBody]


def load_feature_set(store: Store, owner: str, feature_set_id: str) -> FeatureSet:
    """The manifest of a feature set; UnknownName when there is none."""
    try:
        data = store.get(layout.feature_set(owner, feature_set_id))
    except UnknownName:
        raise UnknownName(f"no feature set {feature_set_id!r}") from None
    return FeatureSet.model_validate_json(data)


def read_shards(store: Store, dataset_id: str, shelf: str, shards: int) -> Iterator[Shard]:
    """The shards in order; UnknownName when one is missing."""
    for index in range(shards):
        yield Shard.unpack(store.get(layout.shard(dataset_id, shelf, index)))


def read_matrix(
    store: Store, dataset_id: str, shelf: str, shards: int, total: int, file: Path
) -> Matrix:
    """All features of a dataset of `total` items, each flattened in C order.

    The rows are in a new .npy file, mapped into memory: it has `total` rows, of which those beyond
    the N good ones are zero. Without a good one there is no file.
    """
    rows: NDArray[np.float32] | None = None
    kept: list[NDArray[np.int64]] = []
    errors: dict[int, ErrorBody] = {}
    filled = 0
    for shard in read_shards(store, dataset_id, shelf, shards):
        errors.update(shard.errors)
        count = len(shard.kept)
        if not count:
            continue
        flat = shard.rows.reshape(count, -1)
        if rows is None:
            rows = _allocate((total, flat.shape[1]), file)
        if filled + count > total or flat.shape[1] != rows.shape[1]:
            raise DependencyError(f"the feature shards of {dataset_id} do not fit together")
        rows[filled : filled + count] = flat
        kept.append(shard.kept)
        filled += count
    if rows is None:
        rows = np.empty((0, 0), np.float32)
    numbers = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return Matrix(rows[:filled], numbers, errors)


def _allocate(shape: tuple[int, int], file: Path) -> NDArray[np.float32]:
    mapped: NDArray[np.float32] = np.lib.format.open_memmap(
        file, mode="w+", dtype=np.float32, shape=shape
    )
    return mapped


def told_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The `errors` of a shard's metadata and, unless it is an old one, the `sha256` of its rows."""
    if "shard" in metadata:
        told: dict[str, Any] = json.loads(metadata["shard"])
        return told
    return {"errors": json.loads(metadata["errors"])}


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, which `safetensors.numpy` reads from files only.

    The format: 8 bytes with the header's length, little-endian, then the header as JSON.
    """
    length = int.from_bytes(data[:8], "little")
    header: dict[str, dict[str, str]] = json.loads(data[8 : 8 + length])
    return header["__metadata__"]

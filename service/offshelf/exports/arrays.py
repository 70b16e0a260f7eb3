"""The rows of a feature set as .npy and .safetensors: a header, and then the shards' own bytes."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf.exports.shard_index import KEPT_BYTES, ROW_BYTES
from offshelf.exports.table import Table, digest_of, items_name, labels_name
from offshelf.exports.virtual import Part, Stored, VirtualFile
from offshelf.store import layout

if TYPE_CHECKING:
    from offshelf.schemas.feature_sets import FeatureSetCard
    from offshelf.store.interface import Store

NPY_TYPE: Final = "application/x-npy"
SAFETENSORS_TYPE: Final = "application/vnd.safetensors"
ITEMS_TYPE: Final = "application/jsonl"
# Where numbers begin, so that they can be mapped into memory and used in place.
ALIGNMENT: Final = 64


def npy(store: Store, table: Table, tap: str) -> VirtualFile:
    """The rows of a tap, float32 (N, ...), as numpy writes them."""
    one = table.taps[tap]
    head = io.BytesIO()
    shape = (sum(table.rows), *one.row_shape)
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, about)
    etag = digest_of(["npy/1", head.getvalue().decode("latin1"), one.digest])
    return VirtualFile(store, [head.getvalue(), *row_parts(table, tap)], etag, NPY_TYPE)


def safetensors(store: Store, table: Table, tap: str, card: FeatureSetCard) -> VirtualFile:
    """`rows` (N, ...) float32, `kept` (N,) and `labels` (N,) int64, with the spec as metadata.

    `kept` are the numbers of the items in the dataset; `labels` places in its classes, -1 for an
    item without one.
    """
    one, count = table.taps[tap], sum(table.rows)
    shapes = {"kept": ("I64", [count]), "labels": ("I64", [count])}
    head = _header({**shapes, "rows": ("F32", [count, *one.row_shape])}, _about(card, tap))
    parts: list[Part] = [head, *kept_parts(table)]
    labels = layout.feature_set_part(card.owner, card.id, labels_name(table.labels_digest))
    parts.append(Stored(labels, 0, KEPT_BYTES * count))
    digests = [one.digest, table.kept_digest, table.labels_digest]
    etag = digest_of(["safetensors/1", head.decode("latin1"), *digests])
    return VirtualFile(store, [*parts, *row_parts(table, tap)], etag, SAFETENSORS_TYPE)


def items(store: Store, table: Table, card: FeatureSetCard) -> VirtualFile:
    """All items, each a line of JSON as `schemas.feature_sets.FeatureSetItem`."""
    key = layout.feature_set_part(card.owner, card.id, items_name(table.items_digest))
    whole = Stored(key, 0, table.items_at[-1])
    return VirtualFile(store, [whole], digest_of(["items/1", table.items_digest]), ITEMS_TYPE)


def row_parts(table: Table, tap: str) -> list[Part]:
    """The rows of a tap in each shard."""
    one = table.taps[tap]
    row_bytes = ROW_BYTES * math.prod(one.row_shape)
    return [
        Stored(layout.shard(table.dataset, one.shelf, shard), at, row_bytes * count)
        for shard, (at, count) in enumerate(zip(one.rows_at, table.rows, strict=True))
    ]


def kept_parts(table: Table) -> list[Part]:
    """The item numbers in each shard."""
    return [
        Stored(layout.shard(table.dataset, table.kept_in, shard), at, KEPT_BYTES * count)
        for shard, (at, count) in enumerate(zip(table.kept_at, table.rows, strict=True))
    ]


def _about(card: FeatureSetCard, tap: str) -> dict[str, str]:
    return {
        "tap": tap,
        "dataset": card.dataset,
        "fingerprint": card.fingerprints[tap],
        "spec": json.dumps(card.specs[tap], sort_keys=True),
        "weights": card.weights.model_dump_json(),
    }


def _header(tensors: dict[str, tuple[str, list[int]]], about: dict[str, str]) -> bytes:
    """Of safetensors: its length in 8 bytes, then JSON, filled up with spaces.

    Tensors lie in the order given, without gaps: wider numbers go first.
    """
    header: dict[str, Any] = {"__metadata__": about}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * (KEPT_BYTES if dtype == "I64" else ROW_BYTES)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text

"""A feature set as Parquet or Arrow: path, label, sha256 and vector, written once as an object.

Unlike .npy such a file cannot be put together from the shards' own bytes, so it is written by
whoever is asked for it first, a row group a shard, and lies in the store from then on. What is
in memory is one shard.
"""

from __future__ import annotations

import importlib.util
import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf.errors import DependencyError
from offshelf.exports.arrays import row_parts
from offshelf.exports.items import read_items
from offshelf.exports.shard_index import ROW_BYTES
from offshelf.exports.table import digest_of
from offshelf.exports.virtual import Stored, VirtualFile
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from offshelf.exports.table import Table
    from offshelf.schemas.feature_sets import FeatureSetCard
    from offshelf.store.interface import Store

PARQUET: Final = "parquet"
ARROW: Final = "arrow"
MEDIA_TYPES: Final = {
    PARQUET: "application/vnd.apache.parquet",
    ARROW: "application/vnd.apache.arrow.file",
}
ADVICE: Final = "{kind} files need pyarrow on the server: pip install 'offshelf[arrow]'"


@dataclass(frozen=True, slots=True)
class ColumnsExport:
    """The file of a tap in one of the two formats, there or to be written."""

    store: Store
    table: Table
    card: FeatureSetCard
    tap: str
    kind: str

    def check(self) -> None:
        """DependencyError where pyarrow is absent."""
        if importlib.util.find_spec("pyarrow") is None:
            advice = ADVICE.format(kind=self.kind)
            raise DependencyError(advice, public=advice)

    @property
    def etag(self) -> str:
        """Of the content, and of the version of the library that writes it."""
        import pyarrow as pa  # type: ignore[import-untyped]  # it has no type stubs

        table = self.table
        digests = [table.taps[self.tap].digest, table.items_digest]
        about = json.dumps(_about(self.card, self.tap, table), sort_keys=True)
        return digest_of([f"{self.kind}/1", pa.__version__, about, *digests])

    @property
    def key(self) -> str:
        """Where it lies in the store."""
        return layout.feature_set_part(self.card.owner, self.card.id, f"{self.etag}.{self.kind}")

    def find(self) -> VirtualFile | None:
        """The file, if it has been written."""
        if not self.store.exists(self.key):
            return None
        whole = Stored(self.key, 0, self.store.size(self.key))
        return VirtualFile(self.store, [whole], self.etag, MEDIA_TYPES[self.kind])

    def write(self, file: Path, told: Callable[[int], None]) -> None:
        """Write it to a new local file, then to the store; `told` hears how many rows are done."""
        self.write_local(file, told)
        self.store.put_new(self.key, file)

    def write_local(self, file: Path, told: Callable[[int], None]) -> None:
        """Write it to a new local file alone."""
        with _writer(self.kind, file, _schema(self.card, self.tap, self.table)) as write:
            done = 0
            for batch in _batches(self.store, self.table, self.card, self.tap):
                write(batch)
                done += batch.num_rows
                told(done)


@contextmanager
def _writer(kind: str, file: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    """What writes a record batch as a row group of Parquet, or a batch of an Arrow file."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    if kind == PARQUET:
        # Numbers of a network hardly compress and are all different.
        names = ["path", "label", "sha256"]
        with pq.ParquetWriter(file, schema, use_dictionary=names, compression="zstd") as parquet:
            yield lambda batch: parquet.write_batch(batch, row_group_size=max(1, batch.num_rows))
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as arrow:
            yield arrow.write_batch


def _schema(card: FeatureSetCard, tap: str, table: Table) -> Any:
    import pyarrow as pa

    width = math.prod(table.taps[tap].row_shape)
    text = [pa.field(name, pa.string(), nullable=False) for name in ("path", "label", "sha256")]
    vector = pa.field("vector", pa.list_(pa.field("item", pa.float32()), width), nullable=False)
    return pa.schema([*text, vector], {"offshelf": json.dumps(_about(card, tap, table))})


def _about(card: FeatureSetCard, tap: str, table: Table) -> dict[str, Any]:
    """What the schema's metadata has under `offshelf`. Maps are flattened to vectors."""
    return {
        "tap": tap,
        "dataset": card.dataset,
        "fingerprint": card.fingerprints[tap],
        "spec": card.specs[tap],
        "weights": card.weights.model_dump(),
        "row_shape": table.taps[tap].row_shape,
    }


def _batches(store: Store, table: Table, card: FeatureSetCard, tap: str) -> Iterator[Any]:
    """A record batch for each shard that has rows."""
    import pyarrow as pa

    width = math.prod(table.taps[tap].row_shape)
    schema = _schema(card, tap, table)
    parts = iter(row_parts(table, tap))
    for shard, count in enumerate(table.rows):
        part = next(parts)
        if not count:
            continue
        rows = b"".join(VirtualFile(store, [part], "", "").read())
        values = pa.array(np.frombuffer(rows, "<f4"), pa.float32())
        if len(values) != count * width or len(rows) != ROW_BYTES * len(values):
            raise DependencyError(f"shard {shard} of feature set {card.id} is not what it was")
        first = shard * table.shard_images
        found = read_items(store, table, card, first, table.shard_images)
        kept = [item for item in found if item.row is not None]
        text = [
            pa.array([getattr(item, name) for item in kept], pa.string())
            for name in ("path", "label", "sha256")
        ]
        vectors = pa.FixedSizeListArray.from_arrays(values, type=schema.field("vector").type)
        yield pa.record_batch([*text, vectors], schema=schema)

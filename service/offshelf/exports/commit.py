"""Commits a feature set whose shards are all there: its items, its table, its manifest.

The manifest is written last and is the commit; all before it may be written again by another
try and comes out the same. No rows are read, so the memory it takes does not grow with them.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from offshelf.errors import DependencyError
from offshelf.exports import records
from offshelf.exports.shard_index import ShardIndex, read_index
from offshelf.exports.table import Table, TapTable, digest_of, items_name, labels_name, put_table
from offshelf.schemas.feature_sets import FeatureSet, FeatureSetItem, TapRows
from offshelf.store import layout

if TYPE_CHECKING:
    from offshelf.schemas.base import ErrorBody, WeightsBody
    from offshelf.schemas.datasets import Dataset
    from offshelf.store.interface import Store


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a job extracted. `specs`, `fingerprints` and `shelves` are by tap.

    A shelf is where the shards of a tap stand in the store, under their dataset.
    """

    id: str
    owner: str
    specs: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    shelves: dict[str, str]
    deterministic: bool
    weights: WeightsBody
    shard_images: int
    versions: dict[str, str]
    created_s: float


def commit(store: Store, extracted: Extracted, dataset: Dataset) -> FeatureSet:
    """Write all that makes the feature set one; the manifest that is there then.

    Raises UnknownName when a shard is missing, and DependencyError for shards that do not fit.
    """
    survey = _survey(store, extracted, dataset)
    with tempfile.TemporaryDirectory(prefix="offshelf-items-") as folder:
        items = _write_items(survey, extracted.shard_images, dataset, Path(folder))
        parts = {
            items_name(items.digest): items.file,
            labels_name(items.labels_digest): items.labels,
        }
        for name, file in parts.items():
            store.put_new(layout.feature_set_part(extracted.owner, extracted.id, name), file)
    table = survey.table(extracted, dataset, items)
    digest = put_table(store, extracted.owner, extracted.id, table)
    return records.add(store, survey.manifest(extracted, dataset, digest))


@dataclass(slots=True)
class _TapSurvey:
    row_shape: tuple[int, ...] | None = None
    rows_at: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def add(self, tap: str, index: ShardIndex) -> None:
        if index.row_shape is not None:
            if self.row_shape not in (None, index.row_shape):
                raise DependencyError(f"the feature shards of tap {tap} do not fit together")
            self.row_shape = index.row_shape
        self.rows_at.append(index.rows_at)
        self.digests.append(index.sha256)

    @property
    def shape(self) -> list[int]:
        return [0] if self.row_shape is None else list(self.row_shape)

    @property
    def digest(self) -> str:
        return digest_of(self.digests)


@dataclass(slots=True)
class _Survey:
    """What the shards hold, in their order."""

    taps: dict[str, _TapSurvey]
    rows: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    kept_at: list[int] = field(default_factory=list)
    errors: dict[int, ErrorBody] = field(default_factory=dict)

    def add(self, indexes: dict[str, ShardIndex]) -> None:
        """Which items a shard has is the same under every tap."""
        first = next(iter(indexes.values()))
        for tap, index in indexes.items():
            if not np.array_equal(index.kept, first.kept):
                raise DependencyError(
                    f"the feature shards of tap {tap} have other images",
                    public=f"the features of tap {tap} were made when other images of the dataset "
                    "could be read: its files have changed, so register it anew",
                )
            self.taps[tap].add(tap, index)
        self.rows.append(len(first.kept))
        self.kept += first.kept.tolist()
        self.kept_at.append(first.kept_at)
        self.errors.update(first.errors)

    def table(self, extracted: Extracted, dataset: Dataset, items: _Items) -> Table:
        return Table(
            dataset=dataset.id,
            total=len(dataset.items),
            shard_images=extracted.shard_images,
            rows=self.rows,
            taps={
                tap: TapTable(
                    shelf=extracted.shelves[tap],
                    row_shape=one.shape,
                    digest=one.digest,
                    rows_at=one.rows_at,
                )
                for tap, one in self.taps.items()
            },
            kept_in=extracted.shelves[next(iter(self.taps))],
            kept_at=self.kept_at,
            items_at=items.starts,
            items_digest=items.digest,
            kept_digest=hashlib.sha256(np.array(self.kept, "<i8").data).hexdigest(),
            labels_digest=items.labels_digest,
        )

    def manifest(self, extracted: Extracted, dataset: Dataset, table: str) -> FeatureSet:
        taps = {
            tap: TapRows(row_shape=one.shape, digest=one.digest) for tap, one in self.taps.items()
        }
        return FeatureSet(
            id=extracted.id,
            owner=extracted.owner,
            dataset=dataset.id,
            created_s=extracted.created_s,
            specs=extracted.specs,
            fingerprints=extracted.fingerprints,
            weights=extracted.weights,
            shards=len(self.rows),
            total=len(dataset.items),
            taps=taps,
            versions=extracted.versions,
            table=table,
            deterministic=extracted.deterministic,
            shard_rows=self.rows,
            kept=self.kept,
            errors=self.errors,
        )


def _survey(store: Store, extracted: Extracted, dataset: Dataset) -> _Survey:
    survey = _Survey({tap: _TapSurvey() for tap in extracted.shelves})
    for number in range(-(-len(dataset.items) // extracted.shard_images)):
        survey.add(
            {
                tap: read_index(store, layout.shard(dataset.id, shelf, number))
                for tap, shelf in extracted.shelves.items()
            }
        )
    return survey


@dataclass(frozen=True, slots=True)
class _Items:
    """The written files of items and labels; where each shard's items begin, and the end."""

    file: Path
    labels: Path
    starts: list[int]
    digest: str
    labels_digest: str


def _write_items(survey: _Survey, shard_images: int, dataset: Dataset, folder: Path) -> _Items:
    """A line of JSON an item, and the class index of every row (-1 for none) as int64."""
    file, labels, digest = folder / "items", folder / "labels", hashlib.sha256()
    classes = {name: place for place, name in enumerate(dataset.classes)}
    rows = {number: row for row, number in enumerate(survey.kept)}
    classed = array("q")
    starts, at = [], 0
    with file.open("wb") as out:
        for number, item in enumerate(dataset.items):
            if number % shard_images == 0:
                starts.append(at)
            line = FeatureSetItem(
                index=number,
                path=item.path,
                label=item.label,
                sha256=item.sha256,
                row=rows.get(number),
                error=survey.errors.get(number),
            )
            at += _write(out, line.model_dump_json(exclude_none=True).encode() + b"\n", digest)
            if number in rows:
                classed.append(classes.get(item.label, -1))
    packed = np.array(classed, "<i8").tobytes()
    labels.write_bytes(packed)
    return _Items(
        file, labels, [*starts, at], digest.hexdigest(), hashlib.sha256(packed).hexdigest()
    )


def _write(out: BinaryIO, line: bytes, digest: Any) -> int:
    digest.update(line)
    return out.write(line)

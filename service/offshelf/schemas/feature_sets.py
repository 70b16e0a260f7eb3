"""The features of whole datasets."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from offshelf.schemas.base import ErrorBody, Strict, WeightsBody
from offshelf.schemas.datasets import DatasetId
from offshelf.schemas.features import FeatureParams, WholeViewText

FEATURE_SET: Final = "feature_set"


def shelf_of(fingerprint: str, *, deterministic: bool) -> str:
    """Where features under a FeatureSpec stand: those of fixed batches have a shelf of their own.

    They have the same fingerprint, but may differ from others in the last digit.
    """
    return f"{fingerprint}.deterministic" if deterministic else fingerprint


class FeatureSetRequest(FeatureParams):
    """Body of `POST /v1/feature-sets`."""

    dataset: DatasetId
    view: WholeViewText = "center"
    deterministic: bool = Field(
        False,
        description="Fix which images run together, so that an undisturbed run and one that was "
        "interrupted give the same bytes on the same kind of worker. Slower; rows that were "
        "computed otherwise are not used.",
    )


class TapRows(Strict):
    """What the rows of a tap are: the shape of one, and a sha256 of all, in their order.

    A set without a good row has rows of shape [0].
    """

    row_shape: list[int]
    dtype: Literal["float32"] = "float32"
    digest: str


class _About(Strict):
    """`table` is the digest of the table that says where the bytes of its files are."""

    id: str
    owner: str
    dataset: str
    created_s: float
    specs: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    weights: WeightsBody
    shards: int
    total: int
    taps: dict[str, TapRows] = {}
    versions: dict[str, str] = {}
    table: str = ""
    deterministic: bool = False

    def shelf(self, tap: str) -> str:
        """Where the shards of a tap stand in the store."""
        return shelf_of(self.fingerprints[tap], deterministic=self.deterministic)


class FeatureSetCard(_About):
    """A feature set without what it has for every image: `rows` good ones, `failed` others."""

    rows: int
    failed: int


class FeatureSet(_About):
    """Features of a dataset under one or more FeatureSpecs; rows are in shards in the store.

    Row r of every tap is of the dataset's item `kept[r]`; `errors` says of the others, by their
    number, what was wrong. `shard_rows` counts the rows of each shard, by which the digests are
    made. `versions` are those of the libraries that made it.
    """

    shard_rows: list[int] = []
    kept: list[int]
    errors: dict[int, ErrorBody]

    @property
    def card(self) -> FeatureSetCard:
        """The card, as lists show it."""
        about = {name: getattr(self, name) for name in _About.model_fields}
        return FeatureSetCard(**about, rows=len(self.kept), failed=len(self.errors))


class FeatureSetItem(Strict):
    """An item of the dataset that a feature set is of: the row that it has, or its error."""

    index: int
    path: str
    label: str
    sha256: str
    row: int | None = None
    error: ErrorBody | None = None

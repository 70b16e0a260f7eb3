"""The features of whole datasets."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from offshelf.schemas.base import ErrorBody, Strict, WeightsBody
from offshelf.schemas.datasets import DatasetId
from offshelf.schemas.features import FeatureParams

FEATURE_SET: Final = "feature_set"


def shelf_of(fingerprint: str, *, deterministic: bool) -> str:
    """Where features under a FeatureSpec stand: those of fixed batches have a shelf of their own.

    They have the same fingerprint, but may differ from others in the last digit.
    """
    return f"{fingerprint}.deterministic" if deterministic else fingerprint


class FeatureSetRequest(FeatureParams):
    """Body of `POST /v1/feature-sets`."""

    dataset: DatasetId
    deterministic: bool = Field(
        False,
        description="Fix which images run together, so that an undisturbed run and one that was "
        "interrupted give the same bytes on the same kind of worker. Slower; rows that were "
        "computed otherwise are not used.",
    )


class FeatureSet(Strict):
    """Features of a dataset under one or more FeatureSpecs; rows are in shards in the store."""

    id: str
    owner: str
    dataset: str
    created_s: float
    specs: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    weights: WeightsBody
    shards: int
    total: int
    kept: list[int]
    errors: dict[int, ErrorBody]
    deterministic: bool = False

    def shelf(self, tap: str) -> str:
        """Where the shards of a tap stand in the store."""
        return shelf_of(self.fingerprints[tap], deterministic=self.deterministic)

"""The features of whole datasets."""

from __future__ import annotations

from typing import Any, Final

from offshelf.schemas.base import ErrorBody, Strict, WeightsBody
from offshelf.schemas.datasets import DatasetId
from offshelf.schemas.features import FeatureParams

FEATURE_SET: Final = "feature_set"


class FeatureSetRequest(FeatureParams):
    """Body of `POST /v1/feature-sets`."""

    dataset: DatasetId


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

"""Datasets: their manifests in the store, and what the API shows of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from offshelf.core.boxes import Box
from offshelf.schemas.base import Strict

DatasetId = Annotated[str, Field(max_length=80, description="The id of a dataset.")]


class DatasetItem(Strict):
    """One sample of a dataset: its path in the upload, its label and its image's content.

    Under a protocol `path` is the sample's key, and several samples may share an image. `boxes`
    are the regions that its features are made of, one for each of the protocol's `regions`: None
    for one that this sample lacks. Without boxes it is the whole image. `label` is empty where a
    sample may have many.
    """

    path: str
    label: str
    sha256: str
    bytes: int
    boxes: list[Box | None] = []


class SplitCounts(Strict):
    """A split of a protocol: how many samples each side has. `val` chooses parameters."""

    name: str
    train: int
    val: int
    test: int


class DatasetProtocol(Strict):
    """By which protocol a dataset was read. `counts` are samples, or positives, a class."""

    name: str
    multi_label: bool
    metrics: list[str]
    regions: list[str]
    counts: dict[str, int]
    splits: list[SplitCounts]


class Dataset(Strict):
    """An immutable version of a dataset; `id` is derived from its content."""

    id: str
    owner: str
    name: str
    created_s: float
    classes: list[str]
    items: list[DatasetItem]
    skipped: list[str] = []
    protocol: DatasetProtocol | None = None

    @property
    def labels(self) -> list[int]:
        """The class index of each item; there is none where an item may have many labels."""
        index = {name: i for i, name in enumerate(self.classes)}
        return [index[item.label] for item in self.items]


class DatasetBody(Strict):
    """A dataset as the API shows it, without its items."""

    id: str
    name: str
    created_s: float
    classes: list[str]
    counts: dict[str, int]
    total: int
    skipped: list[str]
    protocol: DatasetProtocol | None = None

"""Datasets: their manifests in the store, and what the API shows of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import ConfigDict, Field

from offshelf.core.boxes import Box
from offshelf.schemas.base import Strict

if TYPE_CHECKING:
    from collections.abc import Sequence

DATASET: Final = "dataset"  # the kind of job that registers one, and its key in the result
FOLDER: Final = "folder"  # the layout without a protocol: `<class>/<image>`
MAX_NAME_CHARS: Final = 200
MAX_SOURCE_CHARS: Final = 2000

DatasetId = Annotated[
    str, Field(max_length=80, description="The id of a dataset, or its name, or `name:2`.")
]
DatasetName = Annotated[
    str | None, Field(max_length=MAX_NAME_CHARS, description="A name for people.")
]
Layout = Annotated[
    Literal["auto", "folder"],
    Field(description="`folder`: take folders for classes, whatever lists lie beside them."),
]
SourcePlace = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_SOURCE_CHARS,
        description="A folder or `s3://bucket/prefix` that the service is allowed to read.",
        examples=["/data/flowers", "s3://pictures/flowers"],
    ),
]
Copied = Annotated[
    bool,
    Field(
        alias="copy",
        description="Keep copies of the images; else they are read where they are, each time.",
    ),
]


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One sample of a dataset: its path in the upload, its label and its image's content.

    Under a protocol `path` is the sample's key, and several samples may share an image. `boxes`
    are the regions that its features are made of, one for each of the protocol's `regions`: None
    for one that this sample lacks. Without boxes it is the whole image. `label` is empty where a
    sample may have many. `source` is where the image was registered, empty for one that was
    uploaded or copied: its bytes are in the store.
    """

    path: str
    label: str
    sha256: str
    bytes: int
    boxes: list[Box | None] = field(default_factory=list)
    source: str = ""


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


@dataclass(frozen=True, slots=True)
class Dataset:
    """An immutable version of a dataset; `id` is derived from its content.

    `items` may be pages in the store that are read as they are asked for: go through them in
    order, or through a few that lie together.
    """

    id: str
    owner: str
    name: str
    created_s: float
    classes: list[str]
    items: Sequence[DatasetItem]
    protocol: DatasetProtocol | None = None

    @property
    def labels(self) -> list[int]:
        """The class index of each item; there is none where an item may have many labels."""
        index = {name: i for i, name in enumerate(self.classes)}
        return [index[item.label] for item in self.items]


class SkippedFile(Strict):
    """A file that is not in a dataset, or whose image cannot be read, and why."""

    path: str
    reason: str


class DatasetBody(Strict):
    """A dataset as the API shows it, without its items.

    `version` counts the datasets of this name, `parent` is the one that images were added to.
    `layout` says how it was read: `folder`, or the name of a protocol. `source` is where it was
    registered; unless it was `copied` the images are read there. Of the `skipped_total` files
    that were left out, or cannot be read, the first are listed in `skipped`.
    """

    id: str
    name: str
    version: int = 1
    parent: str | None = None
    created_s: float
    layout: str = FOLDER
    source: str | None = None
    copied: bool = True
    classes: list[str]
    counts: dict[str, int]
    total: int
    bytes: int = 0
    skipped: list[SkippedFile] = []
    skipped_total: int = 0
    protocol: DatasetProtocol | None = None


class DatasetHead(DatasetBody):
    """The manifest of a dataset: what the API shows, and how its items are kept."""

    owner: str
    page_items: int

    @property
    def body(self) -> DatasetBody:
        """What the API shows of it."""
        return DatasetBody(**{name: getattr(self, name) for name in DatasetBody.model_fields})


class MoreImages(Strict):
    """Body of `POST /v1/datasets/{id}/images` that names a source."""

    model_config = ConfigDict(populate_by_name=True)

    source: SourcePlace
    copied: Copied = False


class SourceRequest(MoreImages):
    """Body of `POST /v1/datasets` that names a source."""

    name: DatasetName = None
    protocol: DatasetName = None
    layout: Layout = "auto"


class DatasetJob(SourceRequest):
    """What a job of kind `dataset` is to do; `parent` is the dataset to add the images to."""

    parent: DatasetId | None = None

"""What a protocol is: how a data set's folder is read, split and scored, and what papers got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from offshelf.core.boxes import Box  # pydantic reads it at run time
from offshelf.datasets.protocols.tree import Fault, Tree
from offshelf.errors import InvalidParameter
from offshelf.registry import Registry
from offshelf.schemas.base import Strict
from offshelf.schemas.heads import PublishedRow
from offshelf.schemas.learning import Metric as Metric  # noqa: PLC0414 - readers name it

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# What becomes of a class's label 0 (only difficult objects) in training. In a test it never counts.
Difficult = Literal["left out", "negative"]


class Region(Strict):
    """A part of an image with its name, e.g. `person` or `head`.

    A box may reach outside its image: whoever cuts it out decides what lies there.
    """

    name: str
    box: Box


class Item(Strict):
    """One sample: an image, or a region of one.

    `path` is relative to the data set's folder; several samples may share it, `key` is one's own.
    `labels` is the class index alone, or with many labels a -1, 0 or 1 for each class, where 0
    does not count. A region that the annotation lacks (a part out of sight) is not there.
    """

    key: str
    path: str
    labels: tuple[int, ...]
    regions: tuple[Region, ...] = ()


class Split(Strict):
    """Item numbers, sorted. `val` chooses parameters; the final head trains on train and val."""

    name: str
    train: tuple[int, ...]
    val: tuple[int, ...] = ()
    test: tuple[int, ...] = ()

    @property
    def fitting(self) -> tuple[int, ...]:
        """What the final head is trained on."""
        return tuple(sorted((*self.train, *self.val)))


class Description(Strict):
    """A copy of a data set as its protocol sees it: everything but the pixels."""

    protocol: str
    classes: tuple[str, ...]
    multi_label: bool
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    difficult: Difficult = "left out"
    items: tuple[Item, ...]
    splits: tuple[Split, ...]

    @model_validator(mode="after")
    def check(self) -> Description:
        """InvalidParameter for what no protocol could mean; never a surprise while training."""
        if not self.items or not self.classes:
            raise InvalidParameter(f"{self.protocol}: there is no labelled image")
        twice = _first_twice([item.key for item in self.items])
        if twice is not None:
            raise InvalidParameter(f"{self.protocol}: {twice!r} is there twice")
        for item in self.items:
            self._check_labels(item)
        for split in self.splits:
            self._check_split(split)
        return self

    def _check_labels(self, item: Item) -> None:
        known = range(-1, 2) if self.multi_label else range(len(self.classes))
        needed = len(self.classes) if self.multi_label else 1
        if len(item.labels) != needed or any(label not in known for label in item.labels):
            raise InvalidParameter(
                f"{item.key}: labels {item.labels}; {needed} from {known[0]} to {known[-1]} needed"
            )

    def _check_split(self, split: Split) -> None:
        numbers = (*split.train, *split.val, *split.test)
        if numbers and not (min(numbers) >= 0 and max(numbers) < len(self.items)):
            raise InvalidParameter(f"split {split.name}: item numbers that are not there")
        twice = _first_twice(numbers)
        if twice is not None:
            key = self.items[int(twice)].key
            raise InvalidParameter(f"split {split.name}: {key!r} is in it twice (train, val, test)")

    def targets(self) -> NDArray[np.int64]:
        """Class indices (N,), or with many labels (N, K) of -1, 0 and 1."""
        labels = np.array([item.labels for item in self.items], np.int64)
        return labels if self.multi_label else labels[:, 0]

    def training_targets(self) -> NDArray[np.int64]:
        """As `targets`, with the protocol's rule for difficult objects applied."""
        labels = self.targets()
        if self.multi_label and self.difficult == "negative":
            labels[labels == 0] = -1
        return labels

    def counts(self) -> dict[str, set[int]]:
        """What is counted of a copy; the sides of its splits may each have several counts."""
        found = {"classes": {len(self.classes)}, "items": {len(self.items)}}
        for side in ("train", "val", "test"):
            found[side] = {len(getattr(split, side)) for split in self.splits}
        return found


class Published(PublishedRow):
    """A row of a paper's table. `value` and `deviation` are per cent, as printed."""

    metric: Metric


class Card(Strict):
    """What is known of a protocol before any file is read.

    `counts` are official: of "classes", "items", "train", "val", "test" (each split's) and
    whatever else the reader counts. `layout` names the files, `procedure` says what is trained on
    what, `surprises` what people get wrong.
    """

    name: str
    title: str
    source: str
    layout: tuple[str, ...]
    procedure: str
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    multi_label: bool = False
    difficult: Difficult = "left out"
    splits: int
    counts: dict[str, int]
    surprises: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()

    def describe(
        self, classes: tuple[str, ...], items: list[Item], splits: list[Split]
    ) -> Description:
        """The description of a copy; InvalidParameter where it cannot be one."""
        return Description(
            protocol=self.name,
            classes=classes,
            multi_label=self.multi_label,
            metrics=self.metrics,
            difficult=self.difficult,
            items=tuple(items),
            splits=tuple(splits),
        )


@dataclass(frozen=True, slots=True)
class Protocol:
    """A card and the function that reads a folder by it.

    `inside`: where in the folder that a user names the data set may lie, best first. `complete`:
    every image file of the folder belongs to some split. `marks`: files or folders in the data
    set's own folder, any of which tells its layout from plain folders of images.
    """

    card: Card
    reader: Callable[[Card, Tree], Description]
    inside: tuple[str, ...] = ()
    complete: bool = False
    marks: tuple[str, ...] = ()

    def locate(self, root: Path) -> Path:
        """The data set's own folder, to which the items' paths are relative."""
        found = (root / folder for folder in self.inside if (root / folder).is_dir())
        return next(found, root)

    def read(self, root: Path) -> Description:
        """Read a copy. InvalidParameter at the first thing that is missing or broken.

        A part of the data set will do, as long as its lists name no image that is not there;
        `verification.verify` is what compares with the official counts.
        """
        if not root.is_dir():
            raise InvalidParameter(f"{root} is not a folder; {self.card.name} reads one")
        tree = Tree(self.locate(root))
        description = self.reader(self.card, tree)
        check_files(tree, description)
        return description


PROTOCOLS: Registry[Protocol] = Registry("protocol", "offshelf.datasets.protocols")


def register(
    card: Card,
    reader: Callable[[Card, Tree], Description],
    inside: tuple[str, ...] = (),
    *,
    complete: bool = False,
    marks: tuple[str, ...] = (),
) -> Protocol:
    """Make a protocol and put it into the registry under its card's name."""
    return PROTOCOLS.add(card.name, Protocol(card, reader, inside, complete, marks))


def check_files(tree: Tree, description: Description) -> None:
    """A fault of the tree for images that the lists name and the folder lacks."""
    there = set(tree.images())
    paths = dict.fromkeys(item.path for item in description.items)
    tree.fault(Fault.MISSING_IMAGES, [path for path in paths if path not in there])


def _first_twice(values: tuple[int, ...] | list[str]) -> int | str | None:
    """The first value that was there before."""
    seen: set[int | str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None

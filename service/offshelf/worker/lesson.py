"""What a head is to learn from a dataset: which samples train it and test it, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from offshelf.errors import InvalidParameter
from offshelf.heads.choosing import metric_of
from offshelf.heads.folds import folds_of
from offshelf.heads.interface import check_classes
from offshelf.heads.labels import check_labels
from offshelf.heads.splits import split_items
from offshelf.schemas.heads import ProtocolSplit
from offshelf.schemas.learning import ChooseC
from offshelf.worker.training import TrainingSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offshelf.datasets.protocols.interface import Description, Split
    from offshelf.schemas.datasets import Dataset
    from offshelf.schemas.heads import HeadRequest
    from offshelf.schemas.learning import Learning, Metric


@dataclass(frozen=True, slots=True)
class Lesson:
    """Sample numbers, and the labels of all samples: (N,), or (N, K) where each may have many.

    Those of the samples that train are as the protocol wants them for training. The samples of
    `val`, which can choose parameters, are among `train`; `first_figure` is the protocol's metric.
    """

    classes: list[str]
    labels: NDArray[np.int64]
    train: tuple[int, ...]
    test: tuple[int, ...]
    val: tuple[int, ...] = ()
    first_figure: Metric | None = None

    def check(self, learning: Learning) -> None:
        """InvalidParameter for what cannot be learned, or not so."""
        labels = self.labels[list(self.train)]
        self._check(labels)
        learning.check_labels(self.classes, multi_label=labels.ndim == 2)
        if isinstance(learning.C, ChooseC):
            metric_of(learning.C, self.first_figure, multi_label=labels.ndim == 2)
        places = np.flatnonzero(np.isin(self.train, self.val))
        folds_of(learning, labels, places, self.classes)

    def rows(self, kept: NDArray[np.int64]) -> TrainingSet:
        """Row numbers in a matrix that has features of the samples `kept`, in that order.

        Samples without features are left out. InvalidParameter where too little is left.
        """
        row_of = {int(number): row for row, number in enumerate(kept)}
        train, test, val = (
            np.array([row_of[number] for number in numbers if number in row_of], np.int64)
            for numbers in (self.train, self.test, self.val)
        )
        labels = self.labels[kept]
        self._check(labels[train])
        return TrainingSet(labels, train, test, val)

    def _check(self, labels: NDArray[np.int64]) -> None:
        if labels.ndim == 2:
            check_labels(labels, self.classes)
        else:
            check_classes(labels, self.classes)


def lesson_of(dataset: Dataset, description: Description | None, request: HeadRequest) -> Lesson:
    """The lesson that a request names; InvalidParameter for a split that does not fit."""
    if isinstance(request.split, ProtocolSplit):
        if description is None:
            raise InvalidParameter(
                f"dataset {dataset.id} has no protocol, so no split of one; upload it with one, or "
                'name a random split: {"train_per_class": 30}'
            )
        split = split_of(description, request.split)
        labels = description.targets()
        labels[list(split.fitting)] = description.training_targets()[list(split.fitting)]
        first = description.metrics[0]
        return Lesson(dataset.classes, labels, split.fitting, split.test, split.val, first)
    if description is not None and description.multi_label:
        raise InvalidParameter(
            f"the samples of dataset {dataset.id} may have many labels: name a split of its "
            f'protocol {description.protocol}: {{"number": 1}}'
        )
    chosen = split_items(dataset, request.split)
    labels = np.array(dataset.labels, np.int64)
    return Lesson(dataset.classes, labels, chosen.train, chosen.test, chosen.val)


def split_of(description: Description, wanted: ProtocolSplit) -> Split:
    """The split of a number; InvalidParameter says how many there are."""
    count = len(description.splits)
    if wanted.number > count:
        raise InvalidParameter(
            f"there is no split {wanted.number}: {description.protocol} has "
            f"{count} here, numbered from 1"
        )
    return description.splits[wanted.number - 1]

"""The scores of a head's test samples beside their truths: one immutable object beside the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy

from offshelf.errors import DependencyError, UnknownName
from offshelf.heads.features import read_metadata
from offshelf.schemas.reports import LowShotCurve
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offshelf.store.interface import Store


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a head said of the samples of its test side.

    `scores` (T, K) are margins or logits, -inf throughout for a sample that had no features.
    `truth` is class indices (T,), or a -1, 0 or 1 for each class (T, K). `numbers` (T,) are those
    of the items in `dataset`.
    """

    dataset: str
    scores: NDArray[np.float32]
    truth: NDArray[np.int64]
    numbers: NDArray[np.int64]
    low_shot: LowShotCurve | None = None

    @property
    def multi_label(self) -> bool:
        """Whether a sample may have many labels."""
        return self.truth.ndim == 2

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to be right about: some test labels were never published."""
        return bool((self.truth == 1).any()) if self.multi_label else len(self.truth) > 0

    def scored(self) -> Evaluation:
        """Only the samples that had features."""
        rows = (self.scores > -np.inf).any(axis=1)
        return Evaluation(
            self.dataset, self.scores[rows], self.truth[rows], self.numbers[rows], self.low_shot
        )

    def pack(self) -> bytes:
        """As safetensors: three tensors, and all else in the metadata."""
        tensors: dict[str, NDArray[Any]] = {
            "scores": np.ascontiguousarray(self.scores, np.float32),
            "truth": np.ascontiguousarray(self.truth, np.int8 if self.multi_label else np.int64),
            "numbers": np.ascontiguousarray(self.numbers, np.int64),
        }
        metadata = {"dataset": self.dataset}
        if self.low_shot is not None:
            metadata["low_shot"] = self.low_shot.model_dump_json()
        return bytes(safetensors.numpy.save(tensors, metadata=metadata))

    @classmethod
    def unpack(cls, data: bytes) -> Evaluation:
        """Inverse of `pack`; DependencyError for other bytes."""
        try:
            tensors, metadata = safetensors.numpy.load(data), read_metadata(data)
            curve = metadata.get("low_shot")
            return cls(
                metadata["dataset"],
                tensors["scores"],
                tensors["truth"].astype(np.int64),
                tensors["numbers"],
                None if curve is None else LowShotCurve.model_validate_json(curve),
            )
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise DependencyError(f"not an evaluation: {error}") from error


def evaluation_of(
    dataset: str,
    labels: NDArray[np.int64],
    test: Sequence[int],
    kept: NDArray[np.int64],
    scores: NDArray[np.float32],
    low_shot: LowShotCurve | None = None,
) -> Evaluation | None:
    """The evaluation of the test samples with the numbers `test`; None of no test side.

    `labels` are those of all items of the dataset. `scores` (n, K) are those of the samples that
    are among `kept`, in their order; all others had no features.
    """
    numbers = np.array(test, np.int64)
    if not len(numbers):
        return None
    table = np.full((len(numbers), scores.shape[1]), -np.inf, np.float32)
    table[np.isin(numbers, kept)] = scores
    return Evaluation(dataset, table, labels[numbers], numbers, low_shot)


def save(store: Store, owner: str, head_id: str, evaluation: Evaluation | None) -> None:
    """Write it, before the head's card; what is there already stays."""
    if evaluation is not None:
        store.put_new(layout.head_evaluation(owner, head_id), evaluation.pack())


def load(store: Store, owner: str, head_id: str) -> Evaluation:
    """The evaluation of a head; UnknownName when there is none."""
    try:
        return Evaluation.unpack(store.get(layout.head_evaluation(owner, head_id)))
    except UnknownName:
        raise UnknownName(f"head {head_id!r} has no evaluation") from None

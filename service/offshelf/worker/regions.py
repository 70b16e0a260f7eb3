"""The feature of a sample that is made of regions of an image: theirs, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from offshelf.core.boxes import Box
    from offshelf.engine.interface import Features
    from offshelf.schemas.datasets import Dataset
    from offshelf.worker.content_cache import Content

# An entry a region: its features to come, by tap, or None for one that the sample lacks.
Parts: TypeAlias = "Sequence[Future[dict[str, Features]] | None]"

WHOLE: Final[tuple[Literal["whole"]]] = ("whole",)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the image of an item, or all of it (`box` None)."""

    number: int
    sha256: str
    box: Box | None

    @property
    def content(self) -> Content:
        """What its features depend on, beside the FeatureSpec."""
        return self.sha256, self.box


def regions_of(dataset: Dataset, numbers: Sequence[int]) -> list[Region]:
    """The regions of some items, one item's after the other's; without those that are not there."""
    return [
        Region(number, dataset.items[number].sha256, None if box == "whole" else box)
        for number in numbers
        for box in dataset.items[number].boxes or WHOLE
        if box is not None
    ]


def joined(parts: Parts) -> dict[str, Features]:
    """The features of a sample by tap: of one region as they are, of R stacked to (R, ...).

    A region that is not there is zeros. At least one is, and all have ended well.
    """
    found = [None if future is None else future.result() for future in parts]
    known = next(features for features in found if features is not None)
    if len(found) == 1:
        return known
    return {
        tap: np.stack([np.zeros_like(value) if one is None else one[tap] for one in found])
        for tap, value in known.items()
    }

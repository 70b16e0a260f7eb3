"""The feature of a sample that is made of regions of an image: theirs, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from offshelf.core.batching import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from offshelf.core.boxes import Box
    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features
    from offshelf.worker.interface import Extractor

# An entry a region: its features to come, by tap, or None for one that the sample lacks.
Parts: TypeAlias = "Sequence[Future[dict[str, Features]] | None]"

WHOLE: Final[tuple[Literal["whole"]]] = ("whole",)


def submitted(
    extractor: Extractor, image: bytes, plan: Plan, box: Box | Literal["whole"] | None
) -> Future[dict[str, Features]] | None:
    """Send a region of an image to the device; None for one that is not there."""
    if box is None:
        return None
    return extractor.submit(image, plan, Lane.BULK, box=None if box == "whole" else box)


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

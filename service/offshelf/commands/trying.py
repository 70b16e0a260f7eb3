"""Asks for the features of a small picture first, before much is uploaded for wrong names."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from offshelf_client import Client

SIDE = 64


def try_features(client: Client, **features: Any) -> None:
    """Raise what is wrong with the names of `client.features(...)`'s options, if anything is.

    Nothing is learned, and nothing raised, where the service has no worker now or needs long to
    load the network: the job will wait for it. Nor where the picture itself cannot be seen so.
    """
    from offshelf_client import (
        DeadlineExceededError,
        ImagesFailed,
        InvalidImageError,
        NoWorkerError,
        OverCapacityError,
        TimedOut,
        TooLargeError,
    )

    passing = (NoWorkerError, OverCapacityError, DeadlineExceededError, TimedOut)
    with suppress(*passing, ImagesFailed, InvalidImageError, TooLargeError):
        client.features(np.zeros((SIDE, SIDE, 3), np.uint8), **features)

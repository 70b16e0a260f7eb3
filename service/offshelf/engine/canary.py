"""A known image through a backbone: proof that it runs, gives numbers, and the same ones twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.engine.interface import Output
from offshelf.errors import WorkerError

if TYPE_CHECKING:
    from offshelf.backbones.interface import Card
    from offshelf.engine.interface import Features, Pixels, Resident

# Of a row's norm; what conformance allows between engines and batch sizes.
TOLERANCE = 1e-5


def canary_pixels(card: Card) -> Pixels:
    """A synthetic image of ramps and stripes, (1, crop, crop, 3)."""
    side = card.preprocessing.crop
    down, across = np.mgrid[:side, :side]
    channels = (
        across * 255 // (side - 1),
        down * 255 // (side - 1),
        (across + down) // 8 % 2 * 255,
    )
    return np.stack(channels, axis=-1).astype(np.uint8)[np.newaxis]


def canary_outputs(card: Card) -> tuple[Output, ...]:
    """The last tap: everything before it is run as well."""
    return (Output(card.taps[-1].name),)


def canary(resident: Resident) -> None:
    """Run the image twice; WorkerError unless the features are finite and agree.

    It is also the warm-up: the first run of a network is slower than any later one.
    """
    card = resident.card
    outputs = canary_outputs(card)
    inputs = [(canary_pixels(card),)]
    first, second = (resident.forward(inputs, outputs)[outputs[0]][0] for _ in range(2))
    check_canary(card, first, second)


def check_canary(card: Card, first: Features, second: Features) -> None:
    """WorkerError unless two runs of the canary are finite and agree."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise WorkerError(f"{card.name}: the canary's features are not finite")
    if np.linalg.norm(first - second) > TOLERANCE * np.linalg.norm(first):
        raise WorkerError(f"{card.name}: the canary's features differ from one run to the next")

"""The engine: what owns a device and runs backbones on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.backbones.interface import Card
    from offshelf.core.spec import Normalisation

Pixels: TypeAlias = NDArray[np.uint8]
Features: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Output:
    """One thing to hand out of a forward pass. `tap` is canonical (`fc7:pre`)."""

    tap: str
    pooling: str = "none"
    normalisation: Normalisation = "none"


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """The weights that a resident backbone really runs.

    `source` is `directory`, `hub-cache`, `download`, `package` or `random`; `label` names them
    for people (`IMAGENET1K_V1`, `random:0`); `digest` is the sha256 of the tensors.
    """

    source: str
    label: str
    digest: str
    licence: str

    @property
    def is_random(self) -> bool:
        """Whether nothing was ever learned by these weights."""
        return self.source == "random"


class Resident(Protocol):
    """A backbone on the device."""

    @property
    def card(self) -> Card:
        """Its card."""
        ...

    @property
    def weights(self) -> WeightsInfo:
        """What it runs."""
        ...

    def forward(self, batch: Pixels, outputs: Sequence[Output]) -> dict[Output, Features]:
        """Run a batch of inputs once and hand out every output.

        `batch` is (N, crop, crop, 3), RGB. Each output is (N, ...): the tap's shape, pooled and
        normalised as asked, in float32 on the host.
        """
        ...


class Engine(Protocol):
    """What loads backbones; one object owns one device."""

    @property
    def name(self) -> str:
        """`torch`, ..."""
        ...

    @property
    def device(self) -> str:
        """`cpu`, `cuda:0`, ..."""
        ...

    def load(self, backbone: str, weights: str | None) -> Resident:
        """Load a backbone; `weights` is None (the published or brought ones) or `random:<seed>`.

        Raises UnknownName, InvalidParameter or WeightsMissing.
        """
        ...

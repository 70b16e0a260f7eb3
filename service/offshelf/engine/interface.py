"""The engine: what owns a device and runs backbones on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.backbones.interface import Card, Tap
    from offshelf.core.spec import Merge
    from offshelf.engine.whitening import Whitening

Pixels: TypeAlias = NDArray[np.uint8]
Features: TypeAlias = NDArray[np.float32]
# What a view makes of one image: stacks of network inputs (k, H, W, 3), one stack a size.
Inputs: TypeAlias = tuple[Pixels, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Boxes (R, 4) of an image of width x height pixels: left, top, right, bottom."""

    boxes: NDArray[np.float64]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Output:
    """One thing to hand out of a forward pass. `tap` is canonical (`fc7:pre`).

    What an image's inputs give is pooled, then merged to one feature, then normalised; a `stack`
    keeps them apart, and each is normalised for itself. `whitenings` are those that the
    normalisation names by their digests.
    """

    tap: str
    pooling: str = "none"
    normalisation: str = "none"
    merge: Merge = "mean"
    whitenings: tuple[Whitening, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """The weights that a resident backbone really runs.

    `source` is `directory`, `hub-cache`, `download`, `package` or `random`; `label` names them
    for people (`IMAGENET1K_V1`, `random:0`); `digest` is the sha256 of the tensors. `asked` is
    what to ask for to get them again: None for the card's own.
    """

    source: str
    label: str
    digest: str
    licence: str
    asked: str | None = None

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

    @property
    def nbytes(self) -> int:
        """The bytes that its weights take on the device."""
        ...

    def resolve_tap(self, name: str) -> tuple[str, Tap, bool, str]:
        """`Card.resolve_tap`, and beyond the card any node of the network's graph by its name."""
        ...

    def shape_at(self, tap: str, side: int) -> tuple[int, ...]:
        """The shape of a canonical tap for an input of side x side pixels.

        At another than the network's own size the linear layers run as convolutions, so that
        their taps are maps. InvalidParameter where the network cannot run at that size.
        """
        ...

    def forward(
        self, batch: Sequence[Inputs], outputs: Sequence[Output]
    ) -> dict[Output, Sequence[Features]]:
        """Run the inputs of some images once, and hand out every output, an entry an image.

        Each stack of inputs is (k, H, W, 3) uint8 RGB, of any size that the network can run at.
        An entry has the tap's shape, pooled, merged over the image's inputs and normalised as
        asked, in float32 on the host.
        """
        ...

    def forward_regions(
        self, batch: Sequence[Inputs], regions: Sequence[Regions], outputs: Sequence[Output]
    ) -> dict[Output, Sequence[Features]]:
        """A feature of each box of some images, (R, ...) an image, from maps of the whole images.

        The inputs of an image are all of it at one or more scales; a box is pooled from the one
        at which it is nearest to the network's own size. All outputs are of taps that are maps.
        """
        ...

    def close(self) -> None:
        """Free its memory at once; nobody runs it any more."""
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

    @property
    def memory(self) -> int:
        """The bytes that weights may take on the device where no setting says so."""
        ...

    def canonical(self, backbone: str, weights: str | None) -> str | None:
        """The one way to write which weights are meant: None for the card's own.

        What names no backbone or weights comes back as it is: `load` will tell.
        """
        ...

    def footprint(self, backbone: str, weights: str | None) -> int:
        """The bytes that the weights will take; raises what `load` raises for wrong names."""
        ...

    def fetch(self, backbone: str, weights: str | None) -> None:
        """Make sure that the weights are on this machine; raises what `load` raises for them."""
        ...

    def reclaim(self) -> None:
        """Give back to the device what closed backbones have left."""
        ...

    def load(self, backbone: str, weights: str | None) -> Resident:
        """Load a backbone; `weights` is None (the card's), a published name or `random:<seed>`.

        Raises UnknownName, InvalidParameter or WeightsMissing.
        """
        ...

    def is_current(self, resident: Resident) -> bool:
        """Whether loading it again would use the card that it has: card files may change."""
        ...

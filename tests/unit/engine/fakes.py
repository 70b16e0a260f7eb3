"""An engine whose networks do what a test tells them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from offshelf.backbones.interface import Alias, Card, PublishedWeights, Tap
from offshelf.core.spec import Preprocessing
from offshelf.engine.interface import (
    Engine,
    Features,
    Inputs,
    Output,
    Pixels,
    Resident,
    WeightsInfo,
)
from offshelf.errors import UnknownName, WeightsMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

SIDE = 4
MEAN = Output("mean")


def _unbuilt() -> torch.nn.Module:
    raise AssertionError("a fake has no network")


CARD = Card(
    name="fake",
    build=_unbuilt,
    taps=(
        Tap("map", "map", (3, SIDE, SIDE), 1, 1),
        Tap("mean", "mean", (3,), pre=True),
    ),
    preprocessing=Preprocessing(SIDE, SIDE, "bilinear", (0, 0, 0), (1, 1, 1)),
    weights=PublishedWeights("NONE", "", "", "none"),
    aliases={"penultimate": Alias("map", pool="avg")},
)


def pixels(value: int, count: int = 1) -> Pixels:
    """`count` inputs that are one grey."""
    return np.full((count, SIDE, SIDE, 3), value, dtype=np.uint8)


def mean_colours(batch: Pixels, outputs: Sequence[Output]) -> dict[Output, Features]:
    """The mean colour for vectors, the pixels for maps."""
    maps = batch.transpose(0, 3, 1, 2).astype(np.float32)
    means: Features = maps.mean((2, 3))
    return {o: maps if o.tap == "map" and o.pooling == "none" else means for o in outputs}


@dataclass
class FakeResident(Resident):
    """Runs `behave`; remembers the batches; can be held at its gate."""

    behave: Callable[[Pixels, Sequence[Output]], dict[Output, Features]] = mean_colours
    batches: list[list[int]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    digest: str = "d" * 64
    size: int = 1
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def card(self) -> Card:
        return CARD

    @property
    def weights(self) -> WeightsInfo:
        return WeightsInfo("random", "random:0", self.digest, "none")

    @property
    def nbytes(self) -> int:
        return self.size

    def resolve_tap(self, name: str) -> tuple[str, Tap, bool, str]:
        return CARD.resolve_tap(name)

    def shape_at(self, tap: str, side: int) -> tuple[int, ...]:
        """Every tap is a map of the input's own size."""
        return (3, side, side)

    def close(self) -> None:
        self.closed = True

    def forward(
        self, batch: Sequence[Inputs], outputs: Sequence[Output]
    ) -> dict[Output, Sequence[Features]]:
        """Images of one input each go to `behave` together; one of several is a stack."""
        assert not self.closed, "a backbone runs whose memory was freed"
        self.entered.release()
        assert self.gate.wait(20), "the test never opened the gate"
        images = [np.concatenate(inputs) for inputs in batch]
        self.batches.append([int(image[0, 0, 0, 0]) for image in images])
        if any(len(image) > 1 for image in images):
            parts = [self.behave(image, outputs) for image in images]
            return {output: [part[output] for part in parts] for output in outputs}
        return {o: list(v) for o, v in self.behave(np.concatenate(images), outputs).items()}


@dataclass
class FakeEngine(Engine):
    """Loads FakeResidents for the name `fake`; `loads` has every load."""

    on_load: Callable[[], None] = lambda: None
    loads: list[tuple[str, str | None]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    memory: int = 100
    made: list[FakeResident] = field(default_factory=list)
    reclaimed: int = 0
    absent: set[str] = field(default_factory=set)
    outdated: list[Resident] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "fake"

    @property
    def device(self) -> str:
        return "cpu"

    def canonical(self, backbone: str, weights: str | None) -> str | None:
        return None if weights == "PINNED" else weights

    def footprint(self, backbone: str, weights: str | None) -> int:
        return self.sizes.get(backbone, 1)

    def fetch(self, backbone: str, weights: str | None) -> None:
        if backbone in self.absent:
            raise WeightsMissing(f"no weights for {backbone}")

    def reclaim(self) -> None:
        self.reclaimed += 1

    def load(self, backbone: str, weights: str | None) -> FakeResident:
        self.loads.append((backbone, weights))
        self.on_load()
        if not backbone.startswith("fake"):
            raise UnknownName(f"no backbone named {backbone!r}")
        self.made.append(FakeResident(size=self.sizes.get(backbone, 1)))
        return self.made[-1]

    def is_current(self, resident: Resident) -> bool:
        return not any(resident is other for other in self.outdated)

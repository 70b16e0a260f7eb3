"""The head of a network: what of it depends on the number of classes, and a network without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from offshelf.backbones.interface import Build


def head_modules(build: Build) -> list[str]:
    """The modules whose tensors have another shape when the network has another class count."""
    from offshelf.backbones.networks.skeleton import skeleton

    two, three = (
        {name: tuple(t.shape) for name, t in skeleton(build, classes).state_dict().items()}
        for classes in (2, 3)
    )
    return sorted({name.rpartition(".")[0] for name, shape in two.items() if three[name] != shape})


@dataclass(frozen=True, slots=True)
class Resized:
    """Builds a network with so many classes as its own."""

    build: Build
    own: int

    def __call__(self, classes: int | None = None) -> torch.nn.Module:
        """The network, untrained."""
        return self.build(classes=classes or self.own)


@dataclass(frozen=True, slots=True)
class Headless:
    """Builds a network that hands on what its head would read, and has no tensors of a head."""

    build: Build

    def __call__(self, classes: int | None = None) -> torch.nn.Module:
        """The network, untrained; `classes` says nothing to it."""
        from torch.nn import Identity

        network = self.build(classes=classes)
        for name in head_modules(self.build):
            network.set_submodule(name, Identity())
        return network

"""The backbone card: all that is known of a network without loading it; free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from offshelf.core.spec import split_tap
from offshelf.errors import InvalidParameter, UnknownName
from offshelf.registry import Registry, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from offshelf.core.spec import Preprocessing


class Build(Protocol):
    """Make the network with its default initialisation; imports torch when called."""

    def __call__(self, classes: int | None = None) -> torch.nn.Module:
        """The network, in whatever mode and on the CPU; with so many classes, or its own."""
        ...


class Unpack(Protocol):
    """Read a packaged weights file that is not a plain state dict; imports torch when called."""

    def __call__(self, path: Path) -> dict[str, torch.Tensor]:
        """The float32 state dict for the network that `Build` makes."""
        ...


class Select(Protocol):
    """Take a network's tensors out of what a brought weights file holds."""

    def __call__(self, held: object) -> Mapping[str, torch.Tensor]:
        """The state dict for the network that `Build` makes; ValueError says why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Tap:
    """A named place in a network.

    `node` is the graph node whose output it is, in the notation of torchvision's
    `feature_extraction` (a dotted module path, as a rule). `shape` is (C, H, W) or (D,) at the
    card's input size. `stride` and `receptive_field` are in input pixels, None where they are
    not defined. `pre` says that the node is an activation, so that `name:pre` is its input.
    """

    name: str
    node: str
    shape: tuple[int, ...]
    stride: int | None = None
    receptive_field: int | None = None
    pre: bool = False

    @property
    def is_map(self) -> bool:
        """Whether it is a (C, H, W) map, and not a vector."""
        return len(self.shape) == 3


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of a tap; `pool` applies where the caller names no pooling."""

    tap: str
    pool: str = "none"


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights that somebody publishes: one file, and the terms it comes under.

    `sha256_prefix` is the hash prefix in torchvision's file name, checked after a download.
    `packaged` is the file that comes with offshelf, where there is one; then `url` may be empty.
    `file` is its path in the weights directory where that is not the last part of the URL.
    `absence` says why there is no URL, where more can be said than that nobody publishes them.
    """

    name: str
    url: str
    sha256_prefix: str
    licence: str
    top1: float | None = None
    packaged: Path | None = None
    file: str = ""
    absence: str = ""

    @property
    def filename(self) -> str:
        """The file's name in the weights directory and in torch's hub cache."""
        return self.file or self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Card:
    """A backbone: a network with named taps, and the weights it runs.

    `weights` are the pinned ones: what runs where the caller names none, never to be changed for
    a name that was handed out. `others` are cards of the same name for other weights that are
    published for the network, by the name of the weights; each brings its own preprocessing,
    and the taps' shapes where its input size differs. `class_names` are those of the logits,
    in order, where they are known. `brought` says that an operator's card file made it, and
    `select` then finds the tensors in the weights file.
    """

    name: str
    build: Build
    taps: tuple[Tap, ...]
    preprocessing: Preprocessing
    weights: PublishedWeights
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    classes: int = 1000
    paper: str = ""
    unpack: Unpack | None = None
    others: Mapping[str, Card] = field(default_factory=dict)
    pinned: bool = True
    class_names: tuple[str, ...] = ()
    select: Select | None = None
    brought: bool = False

    def with_weights(self, name: str) -> Card:
        """The card for published weights of that name; UnknownName where there are none."""
        if name == self.weights.name:
            return self
        try:
            return self.others[name]
        except KeyError:
            names = [self.weights.name, *sorted(self.others), "random:<seed>"]
            raise UnknownName(unknown(f"weights of {self.name}", name, names)) from None

    def resolve_tap(self, name: str) -> tuple[str, Tap, bool, str]:
        """Resolve `fc7`, `fc7:pre` or an alias of either.

        Returns the canonical name, the tap, whether it is taken before the activation, and the
        pooling that the alias brings (`none` where it brings none).
        """
        base, pre = split_tap(name)
        alias = self.aliases.get(base, Alias(base))
        tap = next((tap for tap in self.taps if tap.name == alias.tap), None)
        if tap is None:
            raise UnknownName(unknown(f"tap of {self.name}", base, self.tap_names()))
        if pre and not tap.pre:
            having = ", ".join(t.name for t in self.taps if t.pre)
            raise InvalidParameter(
                f"tap {tap.name!r} of {self.name} is not an activation, so it has no ':pre'; "
                f"these have: {having}"
            )
        return tap.name + (":pre" if pre else ""), tap, pre, alias.pool

    def tap_names(self) -> list[str]:
        """Taps in network order, then aliases."""
        return [tap.name for tap in self.taps] + sorted(self.aliases)


BACKBONES: Registry[Card] = Registry("backbone", "offshelf.backbones")


def register(card: Card) -> Card:
    """Add a card to the registry; its taps must have names of their own."""
    names = card.tap_names()
    if len(set(names)) != len(names):
        raise ValueError(f"backbone {card.name}: a tap or alias is named twice in {names}")
    return BACKBONES.add(card.name, card)

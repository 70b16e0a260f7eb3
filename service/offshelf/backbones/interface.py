"""The backbone card: all that is known of a network without loading it; free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from offshelf.core.spec import split_tap
from offshelf.errors import InvalidParameter, UnknownName
from offshelf.registry import Registry, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from offshelf.core.spec import Preprocessing


# How a node's output lies, and so what is done to hand it out: nothing; channels last becomes
# channels first; of tokens, the class token alone, or the others as the map that they are of.
# `other` is handed out as it is, and nothing is known of its axes.
Layout: TypeAlias = Literal["plain", "channels_last", "class_token", "patches", "other"]
Kind: TypeAlias = Literal["vector", "tokens", "map", "other"]


def arranged_shape(layout: Layout, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what is handed out, of what a node gives for one image."""
    if layout == "channels_last":
        return (shape[2], shape[0], shape[1])
    if layout == "class_token":
        return shape[1:]
    if layout == "patches":
        side = math.isqrt(shape[0] - 1)
        return (shape[1], side, side)
    return shape


class Build(Protocol):
    """Make the network with its default initialisation; imports torch when called."""

    def __call__(self, classes: int | None = None) -> torch.nn.Module:
        """The network, in whatever mode and on the CPU; with so many classes, or its own."""
        ...


class Unpack(Protocol):
    """Read a weights file that is not a plain state dict; imports torch when called."""

    def __call__(self, path: Path) -> dict[str, torch.Tensor]:
        """The float32 state dict for the network that `Build` makes."""
        ...


class Complete(Protocol):
    """Add what a network needs and its weights file may lack; imports torch when called."""

    def __call__(self, path: Path, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The state dict with it in; `path` is the weights file, which may have others beside."""
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
    `feature_extraction` (a dotted path; a module's stands for the last node in it). `shape` is
    what is handed out at the card's input size: (C, H, W), (T, D) tokens with the class token
    among them, or (D,). `stride`, `receptive_field` and `offset`, the centre of unit 0, are in
    input pixels, None where they are not defined. `pre` says that the node is an activation, so
    that `name:pre` is its input.
    """

    name: str
    node: str
    shape: tuple[int, ...]
    stride: int | None = None
    receptive_field: int | None = None
    pre: bool = False
    layout: Layout = "plain"
    offset: float | None = None

    @property
    def kind(self) -> Kind:
        """What it is: a (C, H, W) map, (T, D) tokens, a (D,) vector, or something else."""
        if self.layout == "other":
            return "other"
        kinds: dict[int, Kind] = {1: "vector", 2: "tokens", 3: "map"}
        return kinds.get(len(self.shape), "other")

    @property
    def is_whole(self) -> bool:
        """Whether it is all of what its node gives, and not some of the tokens."""
        return self.layout not in ("class_token", "patches")

    @property
    def is_map(self) -> bool:
        """Whether it is a (C, H, W) map."""
        return self.kind == "map"


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
    and the taps' shapes where its input size differs. `formats` reads what the weights directory
    may have besides torch's own formats: `<name><suffix>`, by suffix. `class_names` are those of
    the logits, in order, where they are known. `brought` says that an operator's card file made
    it of the network named `architecture`, and `select` then finds the tensors in what the weights
    file holds, whatever its format. `complete` comes after that. `mean_image` names the tensor of
    a network that subtracts the mean itself: no training names it, and no preprocessing replaces
    it.

    `nbytes` is what the network's tensors take. Published files may hold more than the network,
    and under older names: tensors that begin with one of `ignored` are left out, and `renamed`
    are pairs of a regular expression and its replacement, applied to each name in turn.
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
    formats: Mapping[str, Unpack] = field(default_factory=dict)
    others: Mapping[str, Card] = field(default_factory=dict)
    pinned: bool = True
    nbytes: int | None = None
    ignored: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] = ()
    select: Select | None = None
    brought: bool = False
    architecture: str = ""
    complete: Complete | None = None
    mean_image: str = ""

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

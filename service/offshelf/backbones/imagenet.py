"""The generic card of torchvision's ImageNet classifiers: a family only says where its taps are.

What torchvision publishes of each (files, preprocessing, accuracy) and what its graph comes to
(shapes, strides, receptive fields) is in `torchvision.json`, which `tools/survey_torchvision.py`
writes; so a card costs no torch and no arithmetic.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from offshelf.backbones.interface import (
    Alias,
    Card,
    PublishedWeights,
    Tap,
    arranged_shape,
    register,
)
from offshelf.core.spec import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from offshelf.backbones.interface import Layout

FACTS: Final = Path(__file__).parent / "torchvision.json"

# What the first ImageNet weights have in common.
PRESET: Final = Preprocessing(
    resize=256,
    crop=224,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

_URL: Final = "https://download.pytorch.org/models/"

LICENCE: Final = (
    "Published by torchvision, whose code is BSD-3-Clause. Trained on ImageNet (ILSVRC-2012), "
    "whose terms allow non-commercial research and education; whether they bind the weights is "
    "for you to judge."
)
SWAG_LICENCE: Final = (
    "CC-BY-NC 4.0 (Creative Commons Attribution-NonCommercial): trained by Facebook's SWAG "
    "(arXiv:2201.08371) on hashtags of Instagram and then on ImageNet (ILSVRC-2012), whose terms "
    "allow non-commercial research and education; published by torchvision."
)


@dataclass(frozen=True, slots=True)
class Build:
    """torchvision's function of that name, called for an untrained network."""

    function: str
    options: Mapping[str, Any]

    def __call__(self, classes: int | None = None) -> torch.nn.Module:
        """The network with its default initialisation, and so many classes or ImageNet's."""
        import torchvision

        asked = {} if classes is None else {"num_classes": classes}
        network: torch.nn.Module = getattr(torchvision.models, self.function)(
            weights=None, **self.options, **asked
        )
        return network


@dataclass(frozen=True, slots=True)
class At:
    """Where a tap is that is not just what a node gives."""

    node: str
    layout: Layout


@dataclass(frozen=True, slots=True)
class Network:
    """What a family says of one of its networks; `name` is torchvision's.

    `taps` leads from names to graph nodes (a module stands for the last node in it), in network
    order. `weights` are pinned: the first ones that were published, never the current default.
    `options` go to torchvision's function; with `sized`, so does the weights' input size.
    """

    name: str
    paper: str
    taps: Mapping[str, str | At]
    aliases: Mapping[str, str | Alias] = field(default_factory=dict)
    weights: str = "IMAGENET1K_V1"
    options: Mapping[str, Any] = field(default_factory=dict)
    sized: bool = False
    ignored: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def build(self, crop: int) -> Build:
        """What makes the network for inputs of `crop` pixels."""
        options = {**self.options, **({"image_size": crop} if self.sized else {})}
        return Build(self.name, options)

    def nodes(self) -> list[str]:
        """The graph nodes that its taps are at, each once."""
        return sorted({_at(place).node for place in self.taps.values()})


# What the families declared, by name: for the tool that surveys them and for tests.
NETWORKS: Final[dict[str, Network]] = {}


@functools.cache
def facts() -> Mapping[str, Any]:
    """What was surveyed, by network."""
    loaded: Mapping[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))
    return loaded


def declare(network: Network) -> Card:
    """Register the card of a network, with a card for each of its other published weights."""
    NETWORKS[network.name] = network
    known = facts()[network.name]
    cards = {w["name"]: _card(network, w, known["sizes"]) for w in known["weights"]}
    pinned = cards.pop(network.weights)
    return register(replace(pinned, others=cards, pinned=True))


def _card(network: Network, weights: Mapping[str, Any], sizes: Mapping[str, Any]) -> Card:
    crop: int = weights["crop"]
    size = sizes[str(crop)]
    return Card(
        name=network.name,
        build=network.build(crop),
        preprocessing=_preprocessing(weights),
        weights=_published(weights),
        paper=network.paper,
        taps=tuple(
            _tap(name, _at(place), size["nodes"], crop) for name, place in network.taps.items()
        ),
        aliases={
            name: alias if isinstance(alias, Alias) else Alias(alias)
            for name, alias in network.aliases.items()
        },
        classes=weights["classes"],
        pinned=False,
        nbytes=size["nbytes"],
        ignored=network.ignored,
        renamed=network.renamed,
    )


def _preprocessing(weights: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing(
        resize=weights["resize"],
        crop=weights["crop"],
        interpolation=weights["interpolation"],
        mean=tuple(weights["mean"]),
        std=tuple(weights["std"]),
    )


def _published(weights: Mapping[str, Any]) -> PublishedWeights:
    file: str = weights["file"]
    return PublishedWeights(
        name=weights["name"],
        url=_URL + file,
        sha256_prefix=file.removesuffix(".pth").rsplit("-", 1)[-1],
        licence=SWAG_LICENCE if "SWAG" in weights["name"] else LICENCE,
        top1=weights["top1"],
    )


def _at(place: str | At) -> At:
    return place if isinstance(place, At) else At(place, "plain")


def _tap(name: str, at: At, nodes: Mapping[str, Any], crop: int) -> Tap:
    known = nodes[at.node]
    shape = tuple(known["shape"])
    if at.layout == "class_token":
        return Tap(name, at.node, arranged_shape(at.layout, shape), layout=at.layout)
    if at.layout == "patches":
        cut = arranged_shape(at.layout, shape)
        return Tap(name, at.node, cut, crop // cut[-1], layout=at.layout)
    return Tap(
        name,
        at.node,
        shape,
        known.get("stride"),
        known.get("receptive_field"),
        known.get("pre", False),
        known.get("layout", "plain"),
        known.get("offset"),
    )

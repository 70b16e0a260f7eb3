"""Between a weights file and a network: the tensors are read, named as today, checked, filled in.

Never a pickle: safetensors, torch's own format with `weights_only`, or a format that the card
reads itself.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from offshelf.errors import WeightsMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from offshelf.backbones.interface import Card

_NAMED: Final = 5  # of the tensors that are wrong, how many an error names


def read_network(card: Card, path: Path) -> torch.nn.Module:
    """The network with the tensors of a file in it; WeightsMissing where they do not fit."""
    from offshelf.backbones.networks.skeleton import skeleton

    state = _named_as_now(card, _read(card, path))
    network = skeleton(card.build)
    wrong = _differences(network.state_dict(), state)
    if wrong:
        raise WeightsMissing(f"{path} does not hold the weights of {card.name}: {wrong}")
    return _filled(card, network, state)


def fill(card: Card, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The network with these tensors in it, in eval mode; they must fit."""
    from offshelf.backbones.networks.skeleton import skeleton

    return _filled(card, skeleton(card.build), state)


def _filled(
    card: Card, network: torch.nn.Module, state: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """A skeleton with these tensors in it."""
    import torch

    wanted = network.state_dict()
    counters = {
        name: torch.zeros(t.shape, dtype=t.dtype) for name, t in wanted.items() if name not in state
    }
    cast = {name: tensor.to(wanted[name].dtype) for name, tensor in state.items()}
    # Every name and shape was checked against this version of the network's modules.
    filling = OrderedDict(counters | cast)
    filling._metadata = wanted._metadata  # type: ignore[attr-defined]  # noqa: SLF001
    network.load_state_dict(filling, assign=True)
    if any(t.is_meta for t in itertools.chain(network.parameters(), network.buffers())):
        # It has buffers that are computed, not stored: build it for real.
        network = card.build()
        network.load_state_dict(filling)
    return network.eval().requires_grad_(requires_grad=False)


def checked_tensors(state: object) -> Mapping[str, torch.Tensor]:
    """The state dict that `state` is; ValueError, with what it is instead, where it is none."""
    import torch

    what = "is not a state dict (a mapping from names to tensors)"
    if not isinstance(state, dict):
        raise ValueError(f"{what} but a {type(state).__name__}")  # noqa: TRY004 - the file's fault
    others = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(
            f"{what}: these are none: {_some(others)}; where one of them holds the tensors, a card "
            "file can say so (`key`, see docs/weights.md)"
        )
    return state


def _read(card: Card, path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a weights file; WeightsMissing where it is not one."""
    try:
        if path == card.weights.packaged and card.unpack is not None:
            return card.unpack(path)
        state = _selected(card, path, card.formats.get(path.suffix, _held)(path))
        return state if card.complete is None else card.complete(path, state)
    except WeightsMissing:
        raise
    except Exception as error:  # torch and safetensors raise nearly anything on damaged files
        raise WeightsMissing(f"{path} cannot be read as weights: {error}") from error


def _selected(card: Card, path: Path, held: object) -> Mapping[str, torch.Tensor]:
    """The network's tensors in what a file holds; WeightsMissing where they are not in it."""
    try:
        return card.select(held) if card.select is not None else checked_tensors(held)
    except ValueError as error:
        raise WeightsMissing(f"{path} {error}") from error


def _held(path: Path) -> object:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _named_as_now(card: Card, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published state dict as the network has it: without what it lacks, by today's names."""
    return {_name_now(card, n): t for n, t in state.items() if not n.startswith(card.ignored)}


def _name_now(card: Card, name: str) -> str:
    """What the network calls a tensor of a published file, which may be older than its names."""
    now = name
    for pattern, replacement in card.renamed:
        now = re.sub(pattern, replacement, now)
    return now


def _differences(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str:
    """What keeps a state dict from fitting the network's, in words; empty when it fits."""
    # Files older than the counter of batch norm lack it, and nothing reads it.
    missing = sorted(n for n in wanted if n not in found and not n.endswith("num_batches_tracked"))
    unexpected = sorted(set(found) - set(wanted))
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(found))
        if found[name].shape != wanted[name].shape
    ]
    wrong = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{what}: {_some(names)}" for what, names in wrong if names)


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")

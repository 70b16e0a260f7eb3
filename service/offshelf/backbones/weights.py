"""Finds the weights of a backbone, reads them safely, and names them by their content.

Looked at in order: the weights directory (`<backbone>.safetensors`, or the published file name),
what comes with offshelf, torch's hub cache, the publisher. Never a pickle: safetensors, or
torch's own format with `weights_only`.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from offshelf.backbones.download import fetch
from offshelf.errors import DependencyError, InvalidParameter, WeightsMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from offshelf.backbones.interface import Card
    from offshelf.settings import Settings

log = logging.getLogger(__name__)

Source: TypeAlias = Literal["directory", "package", "hub-cache", "download", "random"]

RANDOM_PREFIX: Final = "random:"
RANDOM_LICENCE: Final = "none needed: random numbers"
BROUGHT_LICENCE: Final = "unknown to offshelf: brought by the operator"
_HASHES_KEPT: Final = 64
_NAMED: Final = 5  # of the tensors that are wrong, how many an error names


# The generator that initialisation draws from is one for the process.
_SEEDING: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Location:
    """A weights file that is here."""

    source: Source
    path: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network with its weights in, on the CPU in eval mode, and what they are."""

    network: torch.nn.Module
    source: Source
    label: str
    licence: str
    digest: str


def locate(card: Card, settings: Settings) -> Location | None:
    """The weights file that `load` would read without a download; None where there is none."""
    return next((place for place in _places(card, settings) if place.path.is_file()), None)


def load(card: Card, weights: str | None, settings: Settings) -> Loaded:
    """Build the network with the weights that are wanted: `random:<seed>`, or None for trained.

    Raises InvalidParameter for any other text, WeightsMissing when there is no file that fits.
    """
    if weights is not None:
        return _random(card, weights)
    place = locate(card, settings) or _download(card, settings)
    state = _named_as_now(card, _read(card, place))
    wrong = differences(card, state)
    if wrong:
        raise WeightsMissing(f"{place.path} does not hold the weights of {card.name}: {wrong}")
    network = fill(card, state)
    label, licence = provenance(card, place)
    log.info("%s: %s weights from %s", card.name, label, place.path)
    return Loaded(network, place.source, label, licence, digest(network))


def digest(network: torch.nn.Module) -> str:
    """sha256 over the floating-point tensors of the state dict, sorted by name.

    Each counts with its name, dtype, shape and little-endian values, so the same numbers from a
    .pth and a .safetensors agree; `num_batches_tracked` is no float and does not count.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            total.update(f"{name}\0{kind}\0{tuple(tensor.shape)}\0".encode())
            total.update(_little_endian(tensor))
    return total.hexdigest()


def _little_endian(tensor: torch.Tensor) -> memoryview:
    """The values in row-major order; every platform that torch has wheels for is little-endian."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _places(card: Card, settings: Settings) -> list[Location]:
    """Every file that may hold the weights, in order of preference."""
    places = []
    if settings.weights_dir is not None:
        own = card.name if card.pinned else f"{card.name}.{card.weights.name}"
        names = [f"{own}.safetensors", card.weights.filename, *(own + s for s in card.formats)]
        named = filter(None, dict.fromkeys(names))
        places += [Location("directory", settings.weights_dir / name) for name in named]
    if card.weights.packaged is not None:
        places.append(Location("package", card.weights.packaged))
    if card.weights.url:
        places.append(Location("hub-cache", settings.hub_cache / card.weights.filename))
    return places


def _download(card: Card, settings: Settings) -> Location:
    """Fetch the published file into torch's hub cache."""
    published = card.weights
    if not published.url:
        raise _missing(card, settings, "they are not published anywhere")
    url = published.url
    if settings.weights_mirror is not None:
        url = f"{settings.weights_mirror.rstrip('/')}/{published.filename}"
    target = settings.hub_cache / published.filename
    try:
        fetch(url, target, published.sha256_prefix)
    except DependencyError as error:
        raise _missing(card, settings, f"the download failed: {error}") from error
    return Location("download", target)


def _missing(card: Card, settings: Settings, why: str) -> WeightsMissing:
    """The error that says which files would do and where each of them may be put."""
    published = card.weights.filename
    own = card.name if card.pinned else f"{card.name}.{card.weights.name}"
    wanted = (published, f"{own}.safetensors", *(own + suffix for suffix in card.formats))
    names = " or ".join(dict.fromkeys(name for name in wanted if name))
    folder = settings.weights_dir
    now = "not set now" if folder is None else f"now {folder}"
    put = f"Put {names} into the folder that OFFSHELF_WEIGHTS_DIR names ({now})"
    if card.weights.url:
        put += f", or {published} into {settings.hub_cache}"
    return WeightsMissing(
        f"no weights for {card.name}: {why}. {put}. "
        "Or ask for weights='random:0', which never learned anything."
    )


def _read(card: Card, place: Location) -> Mapping[str, torch.Tensor]:
    """The tensors of a weights file; WeightsMissing where it is not one."""
    import torch
    from safetensors.torch import load_file

    try:
        if place.source == "package" and card.unpack is not None:
            return card.unpack(place.path)
        if place.source == "directory" and place.path.suffix in card.formats:
            return card.formats[place.path.suffix](place.path)
        if place.path.suffix == ".safetensors":
            return load_file(place.path)
        state = torch.load(place.path, map_location="cpu", weights_only=True)
    except WeightsMissing:
        raise
    except Exception as error:  # torch and safetensors raise nearly anything on damaged files
        raise WeightsMissing(f"{place.path} cannot be read as weights: {error}") from error
    return _checked_tensors(state, place.path)


def _checked_tensors(state: object, path: Path) -> Mapping[str, torch.Tensor]:
    import torch

    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsMissing(f"{path} is not a state dict (a mapping from names to tensors)")
    return state


def fill(card: Card, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The network with these tensors in it, in eval mode; they must fit (see `differences`)."""
    import torch

    from offshelf.backbones.networks.skeleton import skeleton

    # Nothing is initialised only to be overwritten.
    network = skeleton(card.build)
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


def _named_as_now(card: Card, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published state dict as the network has it: without what it lacks, by today's names."""
    return {_name_now(card, n): t for n, t in state.items() if not n.startswith(card.ignored)}


def _name_now(card: Card, name: str) -> str:
    """What the network calls a tensor of a published file, which may be older than its names."""
    now = name
    for pattern, replacement in card.renamed:
        now = re.sub(pattern, replacement, now)
    return now


def differences(card: Card, found: Mapping[str, torch.Tensor]) -> str:
    """What keeps a state dict from fitting the card's network, in words; empty when it fits."""
    from offshelf.backbones.networks.skeleton import skeleton

    wanted = skeleton(card.build).state_dict()
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


def provenance(card: Card, place: Location) -> tuple[str, str]:
    """Label and licence: the published ones only for the published file, by its hash."""
    published = card.weights
    if place.source in ("package", "download"):
        return published.name, published.licence
    about = place.path.stat()
    found = _sha256(place.path, about.st_mtime_ns, about.st_size)
    if published.sha256_prefix and found.startswith(published.sha256_prefix):
        return published.name, published.licence
    return place.path.name, BROUGHT_LICENCE


@functools.lru_cache(_HASHES_KEPT)
def _sha256(path: Path, _mtime_ns: int, _size: int) -> str:
    """The hash of a file, taken once for as long as the file stays as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _random(card: Card, weights: str) -> Loaded:
    """The network as it is initialised under a seed; the global random state stays as it is."""
    import torch

    seed = weights.removeprefix(RANDOM_PREFIX)
    if not weights.startswith(RANDOM_PREFIX) or not seed.isdecimal():
        raise InvalidParameter(
            f"weights {weights!r} is not random:<seed>; leave it out for trained"
        )
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        network = card.build().eval().requires_grad_(requires_grad=False)
    label = f"{RANDOM_PREFIX}{int(seed)}"
    return Loaded(network, "random", label, RANDOM_LICENCE, digest(network))

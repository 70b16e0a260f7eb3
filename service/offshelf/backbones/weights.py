"""Finds the weights of a backbone, reads them safely, and names them by their content.

Looked at in order: the weights directory (`<backbone>.safetensors`, or the published file name),
what comes with offshelf, torch's hub cache, the publisher. A file that has a record of its sha256
must agree with it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from offshelf.backbones.download import fetch
from offshelf.backbones.records import record_of, recorded, sha256_of
from offshelf.backbones.state_dict import read_network
from offshelf.errors import DependencyError, InvalidParameter, WeightsMissing, without_folder

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from offshelf.backbones.download import Patience
    from offshelf.backbones.interface import Card
    from offshelf.settings import Settings

log = logging.getLogger(__name__)

Source: TypeAlias = Literal["directory", "package", "hub-cache", "download", "random"]

RANDOM_PREFIX: Final = "random:"
RANDOM_LICENCE: Final = "none needed: random numbers"
BROUGHT_LICENCE: Final = "unknown to offshelf: brought by the operator"


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


def ensure(card: Card, settings: Settings) -> Location:
    """The weights file, downloaded if need be; WeightsMissing where it is not to be had."""
    return locate(card, settings) or download(card, settings)


def load(card: Card, weights: str | None, settings: Settings) -> Loaded:
    """Build the network with the weights that are wanted: `random:<seed>`, or None for trained.

    Raises InvalidParameter for any other text, WeightsMissing when there is no file that fits.
    """
    if weights is not None:
        return _random(card, weights)
    place = ensure(card, settings)
    try:
        check(card, place)
        network = read_network(card, place.path)
    except WeightsMissing as error:
        error.hide(place.path.parent)
        raise
    label, licence = provenance(card, place)
    log.info("%s: %s weights from %s", card.name, label, place.path)
    return Loaded(network, place.source, label, licence, digest(network))


def check(card: Card, place: Location, *, by_name: bool = False) -> None:
    """Raise WeightsMissing where a file is not the one that its record or its name promises.

    A file is hashed again only when it has changed. In the weights directory a published name
    may be an operator's own file, so there the name counts only where `by_name` asks for it.
    """
    if place.source in ("package", "download"):  # part of the installation; just checked
        return
    known, prefix = recorded(place.path), card.weights.sha256_prefix
    promised = by_name or place.source == "hub-cache"
    if not prefix or place.path.name != card.weights.filename:
        promised = False
    if known is None and not promised:
        return
    found = sha256_of(place.path)
    if known is not None and found != known:
        raise WeightsMissing(mismatch(card, place.path, found, known))
    if known is None and not found.startswith(prefix):
        raise WeightsMissing(mismatch(card, place.path, found, ""))


def mismatch(card: Card, path: Path, found: str, known: str) -> str:
    """Both hashes, and what to do: against the record, or the prefix where nothing is `known`."""
    again = f"delete it and run `offshelf weights pull {card.name}"
    again += "`" if card.pinned else f" --weights {card.weights.name}`"
    if not card.weights.url:
        again = "put the right file in its place"
    if known:
        wrong = f"its record {record_of(path).name} says {known}"
        own = "if you changed it on purpose, delete the record"
    else:
        wrong = f"its name says {card.weights.sha256_prefix}..."
        own = f"if it is a network of your own, name it {own_name(card)}.safetensors"
    return f"{path} has sha256 {found}, but {wrong}: it is damaged or another file; {again}; {own}"


def own_name(card: Card) -> str:
    """What an operator's own file for a card is called, without `.safetensors`."""
    name = card.name.replace(":", "-")
    return name if card.pinned else f"{name}.{card.weights.name}"


def file_names(card: Card) -> list[str]:
    """What a file for a card may be called in the weights directory, in order of preference."""
    published = card.weights.filename
    if card.brought:
        return [published]
    own = own_name(card)
    names = [f"{own}.safetensors", published, *(own + suffix for suffix in card.formats)]
    return [name for name in dict.fromkeys(names) if name]


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
    published, places = card.weights, []
    if settings.weights_dir is not None:
        places += [Location("directory", settings.weights_dir / n) for n in file_names(card)]
    if published.packaged is not None:
        places.append(Location("package", published.packaged))
    if published.url:
        places.append(Location("hub-cache", settings.hub_cache / published.filename))
    return places


def download_folder(settings: Settings) -> Path:
    """Where downloads go: into the weights directory if it can be written to, else torch's."""
    folder = settings.weights_dir
    if folder is not None and os.access(folder, os.W_OK):
        return folder
    return settings.hub_cache


def download(card: Card, settings: Settings, patience: Patience | None = None) -> Location:
    """Fetch the published file; WeightsMissing where there is none, or it does not come."""
    published = card.weights
    if not published.url:
        raise _missing(card, settings, unpublished(card))
    if settings.offline:
        raise _missing(card, settings, "OFFSHELF_OFFLINE is set, so nothing is downloaded")
    url = published.url
    if settings.weights_mirror is not None:
        url = f"{settings.weights_mirror.rstrip('/')}/{published.filename}"
    target = download_folder(settings) / published.filename
    try:
        fetch(url, target, published.sha256_prefix, patience)
    except DependencyError as error:
        why = f"the download failed: {error}"
        raise _missing(card, settings, why, without_folder(why, target.parent)) from error
    return Location("download", target)


def unpublished(card: Card) -> str:
    """Why there is nothing to download."""
    if card.brought:
        return f"its card file names {card.weights.filename}, which is not there"
    return card.weights.absence or "they are not published anywhere"


def _missing(card: Card, settings: Settings, why: str, public: str | None = None) -> WeightsMissing:
    """The error that says which files would do and where each of them may be put.

    Clients read `public` instead of `why`, and no folders.
    """
    published = card.weights.filename
    # The published name first: that is the file which people find.
    names = " or ".join(sorted(file_names(card), key=lambda name: name != published))
    folder = settings.weights_dir
    now = "not set now" if folder is None else f"now {folder}"

    asked = card.name if card.pinned else f"{card.name} ({card.weights.name})"

    def told(why: str, now: str, cache: object) -> str:
        put = f"Put {names} into the folder that OFFSHELF_WEIGHTS_DIR names ({now})"
        if card.weights.url:
            put += f", or {published} into {cache}"
        return (
            f"no weights for {asked}: {why}. {put}. "
            "Or ask for weights='random:0', which never learned anything."
        )

    there = now if folder is None else "set on the worker"
    return WeightsMissing(
        told(why, now, settings.hub_cache), told(public or why, there, "torch's cache there")
    )


def provenance(card: Card, place: Location) -> tuple[str, str]:
    """Label and licence: the published ones only for the published file, by its hash.

    Where there is a record it stands for the hash: `check` holds the file against it at load.
    """
    published = card.weights
    if card.brought:
        return published.name, published.licence or BROUGHT_LICENCE
    if place.source != "directory":
        return published.name, published.licence
    prefix = published.sha256_prefix
    if prefix and _hash(place.path).startswith(prefix):
        return published.name, published.licence
    return place.path.name, BROUGHT_LICENCE


def _hash(path: Path) -> str:
    """As recorded, else as found; empty where neither can be read, which the load will tell."""
    try:
        return recorded(path) or sha256_of(path)
    except (OSError, WeightsMissing):
        return ""


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

"""The reference engine: loads backbones with torch, onto the CPU or one CUDA device."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

import torch

from offshelf.backbones.catalogue import Catalogue
from offshelf.backbones.networks.skeleton import nbytes_of, skeleton
from offshelf.backbones.state_dict import fill
from offshelf.backbones.weights import RANDOM_PREFIX, ensure, load
from offshelf.engine.host_tier import HostTier, Kept
from offshelf.engine.interface import WeightsInfo
from offshelf.engine.machine import host_memory
from offshelf.engine.memory import give_freed_memory_back, keep_freed_memory
from offshelf.engine.torch_resident import TorchResident
from offshelf.errors import InvalidParameter, OffshelfError

if TYPE_CHECKING:
    from offshelf.backbones.interface import Card
    from offshelf.engine.interface import Resident
    from offshelf.settings import Settings

MAX_SEED_DIGITS: Final = 20  # of a number of 64 bits


class TorchEngine:
    """Loads backbones onto one device; `settings.device` is `auto`, `cpu`, `cuda`, `cuda:1`..."""

    name: Final = "torch"

    def __init__(self, settings: Settings, catalogue: Catalogue | None = None) -> None:
        self._settings = settings
        self._catalogue = catalogue or Catalogue(settings.weights_dir)
        self._device = _pick_device(settings.device)
        if self._device.type == "cuda":
            # TF32 has ten bits of mantissa: features would miss the tolerance of 1e-5.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        else:
            keep_freed_memory()
        self._footprints: dict[tuple[str, str], int] = {}
        self._host = HostTier(self._host_bytes())

    @property
    def device(self) -> str:
        """`cpu`, `cuda:0`, ..."""
        return str(self._device)

    @property
    def memory(self) -> int:
        """Four fifths of what is free on a CUDA device; half of what this process may have."""
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            return int(free * 0.8)
        return host_memory() // 2

    def canonical(self, backbone: str, weights: str | None) -> str | None:
        """The one way to write which weights are meant: None for the card's own."""
        if weights is None:
            return None
        kind, colon, seed = weights.partition(":")
        if colon and seed.isdecimal() and len(seed) <= MAX_SEED_DIGITS:
            return f"{kind}:{int(seed)}"
        try:
            card = self._catalogue.get(backbone)
        except OffshelfError:  # `load` will say what is wrong
            return weights
        return None if weights == card.weights.name else weights

    def footprint(self, backbone: str, weights: str | None) -> int:
        """The bytes that the weights will take on the device, without loading them."""
        card = self._card(backbone, weights)
        key = (card.name, card.weights.name)
        if key not in self._footprints:
            self._footprints[key] = card.nbytes or nbytes_of(skeleton(card.build))
        return self._footprints[key]

    def fetch(self, backbone: str, weights: str | None) -> None:
        """Make sure that the weights are on this machine; raises what `load` raises for them."""
        card = self._card(backbone, weights)
        seeded = weights is not None and weights.startswith(RANDOM_PREFIX)
        if not seeded and self._host.get((backbone, weights)) is None:
            ensure(card, self._settings)

    def reclaim(self) -> None:
        """Collect what closed backbones have left, and give it back to the driver or system."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            give_freed_memory_back()

    def _card(self, backbone: str, weights: str | None) -> Card:
        """The card of a backbone for these weights."""
        card = self._catalogue.get(backbone)
        if weights is None or weights.startswith(RANDOM_PREFIX):
            return card
        return card.with_weights(weights)

    def _host_bytes(self) -> int:
        """What the host keeps of backbones that left the device: on a CPU they are one."""
        if self._device.type == "cpu":
            return 0
        set_ = self._settings.max_host_bytes
        return host_memory() // 4 if set_ is None else set_

    def load(self, backbone: str, weights: str | None) -> TorchResident:
        """Load a backbone; `weights` is None (the card's), a published name or `random:<seed>`.

        Raises UnknownName, InvalidParameter or WeightsMissing.
        """
        card = self._card(backbone, weights)
        kept = self._host.get((backbone, weights))
        if kept is not None:
            return TorchResident(card, kept.info, fill(card, kept.state), self._device)
        seeded = weights if weights and weights.startswith(RANDOM_PREFIX) else None
        loaded = load(card, seeded, self._settings)
        asked = loaded.label if seeded else None if card.pinned else weights
        info = WeightsInfo(loaded.source, loaded.label, loaded.digest, loaded.licence, asked)
        if not card.brought:  # a card file may change at any time
            self._host.keep((backbone, weights), Kept(info, loaded.network.state_dict()))
        return TorchResident(card, info, loaded.network, self._device)

    def is_current(self, resident: Resident) -> bool:
        """Whether loading it again would use the card that it has: card files may change."""
        if not resident.card.brought:
            return True
        try:
            return self._catalogue.get(resident.card.name) is resident.card
        except OffshelfError:  # gone, or bad by now: the next load says which
            return False


def _pick_device(wanted: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is any."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise InvalidParameter(f"device {wanted!r} is not one of auto, cpu, cuda:N") from error
    if device.type == "cpu":
        return torch.device("cpu")
    index = device.index or 0
    if device.type != "cuda" or index >= torch.cuda.device_count():
        raise InvalidParameter(
            f"device {wanted!r} is not here: there is cpu and {torch.cuda.device_count()} of cuda"
        )
    return torch.device("cuda", index)

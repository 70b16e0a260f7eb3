"""The reference engine: runs backbones with torch, on the CPU or on one CUDA device."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from offshelf.backbones.catalogue import Catalogue
from offshelf.backbones.weights import RANDOM_PREFIX, load
from offshelf.engine.finishing import merge, normalise, pool
from offshelf.engine.graph import Traced
from offshelf.engine.interface import Features, Inputs, Output, Pixels, WeightsInfo
from offshelf.engine.memory import keep_freed_memory
from offshelf.errors import DeviceLost, InvalidParameter, OffshelfError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, fx, nn

    from offshelf.backbones.interface import Card, Tap
    from offshelf.engine.interface import Resident
    from offshelf.settings import Settings

# Different sets of taps for which a pruned graph is kept.
MAX_PROGRAMS: Final = 32


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

    @property
    def device(self) -> str:
        """`cpu`, `cuda:0`, ..."""
        return str(self._device)

    def load(self, backbone: str, weights: str | None) -> TorchResident:
        """Load a backbone; `weights` is None (the card's), a published name or `random:<seed>`.

        Raises UnknownName, InvalidParameter or WeightsMissing.
        """
        card = self._catalogue.get(backbone)
        seeded = weights is not None and weights.startswith(RANDOM_PREFIX)
        if weights is not None and not seeded:
            card = card.with_weights(weights)
        loaded = load(card, weights if seeded else None, self._settings)
        asked = loaded.label if seeded else None if card.pinned else weights
        info = WeightsInfo(loaded.source, loaded.label, loaded.digest, loaded.licence, asked)
        return TorchResident(card, info, loaded.network, self._device)

    def is_current(self, resident: Resident) -> bool:
        """Whether loading it again would use the card that it has: card files may change."""
        if not resident.card.brought:
            return True
        try:
            return self._catalogue.get(resident.card.name) is resident.card
        except OffshelfError:  # gone, or bad by now: the next load says which
            return False


class TorchResident:
    """A backbone on the device; only one thread at a time should call `forward`."""

    def __init__(
        self, card: Card, weights: WeightsInfo, network: nn.Module, device: torch.device
    ) -> None:
        self.card = card
        self.weights = weights
        self._device = device
        # Measured a quarter faster than NCHW on CPUs at batches, and pixels arrive so anyway.
        for parameter in network.to(device).parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._traced = Traced(network)
        for tap in card.taps:
            self._node(tap.name)
        self._mean = self._per_channel(card.preprocessing.mean)
        self._std = self._per_channel(card.preprocessing.std)
        self._programs: OrderedDict[tuple[fx.Node, ...], fx.GraphModule] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = sum(
            t.nbytes for t in itertools.chain(network.parameters(), network.buffers())
        )

    def resolve_tap(self, name: str) -> tuple[str, Tap, bool, str]:
        """`Card.resolve_tap`, and beyond the card any node of the network's graph by its name."""
        return self.card.resolve_tap(name)

    def forward(
        self, batch: Sequence[Inputs], outputs: Sequence[Output]
    ) -> dict[Output, Sequence[Features]]:
        """Run the inputs of some images once, and hand out every output, an entry an image.

        Each stack of inputs is (k, crop, crop, 3) uint8 RGB. An entry has the tap's shape,
        pooled, merged over the image's inputs and normalised as asked, in float32 on the host.
        """
        nodes = tuple(dict.fromkeys(self._node(output.tap) for output in outputs))
        stacks = [stack for inputs in batch for stack in inputs]
        counts = [sum(len(stack) for stack in inputs) for inputs in batch]
        try:
            with torch.inference_mode():
                inputs = self._inputs(stacks[0] if len(stacks) == 1 else np.concatenate(stacks))
                taken = dict(zip(nodes, self._program(nodes)(inputs), strict=True))
                return {o: _features(o, taken[self._node(o.tap)], counts) for o in outputs}
        except RuntimeError as error:
            self._check_device(error)
            raise

    def _check_device(self, cause: RuntimeError) -> None:
        """Raise DeviceLost if the device no longer answers: CUDA errors stick to a process."""
        if self._device.type != "cuda":
            return
        try:
            torch.cuda.synchronize(self._device)
        except RuntimeError as error:
            raise DeviceLost(f"{self._device}: {error}") from cause

    def _node(self, tap: str) -> fx.Node:
        """The graph node of a canonical tap name."""
        _, known, pre, _ = self.card.resolve_tap(tap)
        return self._traced.before(known.node) if pre else self._traced.node(known.node)

    def _program(self, nodes: tuple[fx.Node, ...]) -> fx.GraphModule:
        """The network up to these nodes and no further."""
        with self._lock:
            program = self._programs.pop(nodes, None) or self._traced.program(nodes)
            self._programs[nodes] = program
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)
            return program

    def _inputs(self, batch: Pixels) -> Tensor:
        """Exactly torchvision's ToTensor and Normalize, in channels-last layout."""
        side = self.card.preprocessing.crop
        if batch.dtype != np.uint8 or batch.shape[1:] != (side, side, 3):
            raise InvalidParameter(
                f"a batch for {self.card.name} is uint8 of (N, {side}, {side}, 3), "
                f"not {batch.dtype} of {batch.shape}"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)

    def _per_channel(self, values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device).view(3, 1, 1)


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


def _features(output: Output, values: Tensor, counts: Sequence[int]) -> Sequence[Features]:
    """Finish on the device, then bring to the host: an entry an image of `counts` inputs."""
    pooled = pool(output.pooling, values)
    if len(set(counts)) == 1:
        return list(_host(output, pooled.reshape(-1, counts[0], *pooled.shape[1:])))
    parts: Iterable[Tensor] = torch.split(pooled, list(counts))
    return [_host(output, part.unsqueeze(0))[0] for part in parts]


def _host(output: Output, values: Tensor) -> Features:
    """Merge and normalise (N, k, ...), and bring it to the host as float32."""
    merged = merge(output.merge, values)
    normalised = normalise(output.normalisation, merged, 2 if output.merge == "stack" else 1)
    features: Features = normalised.to("cpu", torch.float32).contiguous().numpy()
    return features

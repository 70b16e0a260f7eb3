"""A backbone on a device: its graph, the parts of it that run, and what comes out of them."""

from __future__ import annotations

import difflib
import itertools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from offshelf.backbones.interface import Tap, arranged_shape
from offshelf.backbones.networks.skeleton import nbytes_of
from offshelf.core.spec import split_tap
from offshelf.engine.convolutional import AnySize
from offshelf.engine.finishing import merge, normalise, pool
from offshelf.engine.graph import Traced
from offshelf.engine.layout import arranged, poolable
from offshelf.engine.region_pooling import Grid, nearest_scale, pool_regions
from offshelf.engine.survey import Survey
from offshelf.errors import DeviceLost, InvalidParameter, UnknownName
from offshelf.registry import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, fx, nn

    from offshelf.backbones.interface import Card
    from offshelf.engine.interface import (
        Features,
        Inputs,
        Output,
        Pixels,
        Regions,
        WeightsInfo,
    )
    from offshelf.engine.whitening import Whitening

# Different sets of taps for which a pruned graph is kept.
MAX_PROGRAMS: Final = 32
# Whitenings on the device; one of 4096 to 500 dimensions takes 8 MB, the largest a quarter of a GB.
MAX_WHITENINGS: Final = 4


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
        # Two locks: a survey may take seconds, and the device's thread must not wait for it.
        self._lock = threading.Lock()
        self._surveying = threading.Lock()
        self._traced = Traced(network)
        self._by_node = {
            self._traced.node(tap.node): tap for tap in reversed(card.taps) if tap.is_whole
        }
        self._survey: Survey | None = None
        self._reversed = card.preprocessing.channels == "bgr"
        self._mean = self._per_channel(card.preprocessing.mean)
        self._std = self._per_channel(card.preprocessing.std)
        self._programs: OrderedDict[tuple[fx.Node, ...], fx.GraphModule] = OrderedDict()
        self._any_size = AnySize(self._traced, card.preprocessing.crop)
        self._whitenings: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self.nbytes = nbytes_of(network)

    def resolve_tap(self, name: str) -> tuple[str, Tap, bool, str]:
        """`Card.resolve_tap`, and beyond the card any node of the network's graph by its name.

        A module's name stands for the last node in it. A node that is one of the card's taps has
        that tap's canonical name. Raises UnknownName with close matches, and InvalidParameter
        for a node whose output is no feature of the images.
        """
        base, pre = split_tap(name)
        if base in self.card.tap_names():
            return self.card.resolve_tap(name)
        try:
            node = self._traced.node(base)
        except KeyError:
            raise UnknownName(self._unknown(base)) from None
        tap = self._by_node.get(node) or self._unnamed(node)
        if pre and not tap.pre:
            raise InvalidParameter(
                f"node {base!r} of {self.card.name} is not an activation, so it has no ':pre'"
            )
        return tap.name + (":pre" if pre else ""), tap, pre, "none"

    def _unknown(self, name: str) -> str:
        """The closest of all names; where none is close, the taps: a graph has hundreds."""
        taps = self.card.tap_names()
        names = [*taps, *self._traced.names()]
        close = difflib.get_close_matches(name, names)
        return unknown(f"tap of {self.card.name}", name, names if close else taps)

    def _unnamed(self, node: fx.Node) -> Tap:
        """A tap for a node that the card does not name."""
        name = self._traced.name(node)
        found = self._surveyed()[name]
        if found.problem:
            raise InvalidParameter(
                f"node {name!r} of {self.card.name} gives no feature of an image: {found.problem}"
            )
        return Tap(
            name,
            name,
            found.shape,
            found.stride,
            found.receptive_field,
            self._traced.is_activation(name),
            found.layout,
            found.offset,
        )

    def _surveyed(self) -> Survey:
        """The survey of the graph, made when first asked for; no one waits once it is there."""
        if self._survey is None:
            with self._surveying:
                if self._survey is None:
                    self._survey = Survey(self.card.build, self.card.preprocessing.crop)
        return self._survey

    def shape_at(self, tap: str, side: int) -> tuple[int, ...]:
        """The shape of a canonical tap for an input of side x side pixels.

        At another than the network's own size the linear layers run as convolutions, so that
        their taps are maps. InvalidParameter where the network cannot run at that size.
        """
        _, known, _, _ = self.resolve_tap(tap)
        try:
            shape = self._any_size.shape(self._node(tap), side)
            return arranged_shape(known.layout, shape)
        except Exception as error:
            own = self.card.preprocessing.crop
            advice = (
                f"a dense view's short sides are to be {own} or more"
                if side < own and not isinstance(error, InvalidParameter)
                else f"it takes inputs of its own {own} pixels alone, as all views but dense make"
            )
            raise InvalidParameter(
                f"{self.card.name} cannot give {tap!r} of dense inputs of {side} pixels: {advice} "
                f"({_first_line(error)})"
            ) from error

    def forward(
        self, batch: Sequence[Inputs], outputs: Sequence[Output]
    ) -> dict[Output, Sequence[Features]]:
        """Run the inputs of some images once, and hand out every output, an entry an image.

        Each stack of inputs is (k, H, W, 3) uint8 RGB; those of one size run together. An entry
        has the tap's shape, pooled, merged over the image's inputs and normalised as asked, in
        float32 on the host.
        """
        counts = [sum(len(stack) for stack in inputs) for inputs in batch]
        stacks = [stack for inputs in batch for stack in inputs]
        try:
            with torch.inference_mode():
                pooled = self._pooled(stacks, outputs)
                return {o: self._features(o, pooled[o], counts) for o in outputs}
        except RuntimeError as error:
            self._check_device(error)
            raise

    def forward_regions(
        self, batch: Sequence[Inputs], regions: Sequence[Regions], outputs: Sequence[Output]
    ) -> dict[Output, Sequence[Features]]:
        """A feature of each box of some images; see `engine.interface.Resident`."""
        try:
            with torch.inference_mode():
                maps = self._maps([stack for inputs in batch for stack in inputs], outputs)
                scales = iter(range(len(maps)))
                own = [[maps[next(scales)] for _ in inputs] for inputs in batch]
                found = [
                    self._of_regions(inputs, scaled, one, outputs)
                    for inputs, scaled, one in zip(batch, own, regions, strict=True)
                ]
                return {o: [features[o] for features in found] for o in outputs}
        except RuntimeError as error:
            self._check_device(error)
            raise

    def _maps(
        self, stacks: Sequence[Pixels], outputs: Sequence[Output]
    ) -> Sequence[dict[Output, Tensor]]:
        """The maps (C, H, W) of every output of each input; those of one size run together."""
        maps: list[dict[Output, Tensor]] = [{} for _ in stacks]
        for size in dict.fromkeys(stack.shape for stack in stacks):
            alike = [i for i, stack in enumerate(stacks) if stack.shape == size]
            together = self._arranged_of([stacks[i] for i in alike], outputs)
            for output, values in together.items():
                for place, value in zip(alike, values, strict=True):
                    # At the network's own size a vector is not a map of one place yet.
                    maps[place][output] = value if value.ndim == 3 else value[:, None, None]
        return maps

    def _of_regions(
        self,
        inputs: Inputs,
        maps: Sequence[dict[Output, Tensor]],
        regions: Regions,
        outputs: Sequence[Output],
    ) -> dict[Output, Features]:
        """The features of one image's boxes, each from the scale that suits it."""
        sizes = [stack.shape[2:0:-1] for stack in inputs]
        zooms = [(wide / regions.width, high / regions.height) for wide, high in sizes]
        scale = nearest_scale(regions.boxes, zooms, self.card.preprocessing.crop)
        order = np.argsort(scale, kind="stable")
        found: dict[Output, Features] = {}
        for output in outputs:
            grid, parts = self._grid(output.tap), []
            for number, zoom in enumerate(zooms):
                rows = regions.boxes[scale == number]
                if len(rows):
                    values = maps[number][output]
                    units = grid.units(rows, zoom, (values.shape[2], values.shape[1]))
                    parts.append(pool_regions(output.pooling, values, units))
            pooled = torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(self._device)]
            found[output] = self._host(output, pooled.unsqueeze(1))
        return found

    def _grid(self, tap: str) -> Grid:
        """Where the units of a tap's map lie in an input of any size.

        A vector's map, in the convolutional form, has the stride of the last map before it.
        """
        _, known, _, _ = self.resolve_tap(tap)
        strides = [one.stride for one in self.card.taps if one.is_map and one.stride is not None]
        middle = (self.card.preprocessing.crop - 1) / 2
        return Grid(
            strides[-1] if known.stride is None else known.stride,
            middle if known.offset is None else known.offset,
        )

    def part(self, tap: str) -> tuple[fx.GraphModule, Tap]:
        """The network up to a canonical tap, which it gives as a tuple of one, and that tap.

        It takes normalised inputs (N, 3, S, S) of the network's own size, and shares its weights.
        """
        _, known, _, _ = self.resolve_tap(tap)
        return self._program((self._node(tap),)), known

    def close(self) -> None:
        """Free the tensors at once: what is left of a graph has cycles, and goes when it may."""
        with self._lock:
            self._programs.clear()
            self._whitenings.clear()
            for module in self._traced.root.modules():
                module._parameters.clear()  # noqa: SLF001 - torch has no public way
                module._buffers.clear()  # noqa: SLF001

    def _pooled(self, stacks: Sequence[Pixels], outputs: Sequence[Output]) -> dict[Output, Tensor]:
        """Every output of all inputs in their order, (N, ...) pooled."""
        sizes = list(dict.fromkeys(stack.shape[1:] for stack in stacks))
        if len(sizes) == 1:
            return self._of_one_size(stacks, outputs)
        alike = [[i for i, s in enumerate(stacks) if s.shape[1:] == size] for size in sizes]
        parts = [self._of_one_size([stacks[i] for i in places], outputs) for places in alike]
        order = _order([len(stack) for stack in stacks], alike)
        return {o: torch.cat([part[o] for part in parts])[order] for o in outputs}

    def _of_one_size(
        self, stacks: Sequence[Pixels], outputs: Sequence[Output]
    ) -> dict[Output, Tensor]:
        arranged = self._arranged_of(stacks, outputs)
        return {output: pool(output.pooling, values) for output, values in arranged.items()}

    def _arranged_of(
        self, stacks: Sequence[Pixels], outputs: Sequence[Output]
    ) -> dict[Output, Tensor]:
        """What every output's node gives of inputs of one size, (N, ...), arranged."""
        inputs = self._inputs(stacks[0] if len(stacks) == 1 else np.concatenate(stacks))
        side = self.card.preprocessing.crop
        plain = tuple(dict.fromkeys(self._node(output.tap) for output in outputs))
        nodes = plain
        if inputs.shape[2:] != (side, side):
            nodes = tuple(self._any_size.twin(node) for node in plain)
        taken = dict(zip(plain, self._program(nodes)(inputs), strict=True))
        return {o: self._arranged(o, taken[self._node(o.tap)]) for o in outputs}

    def _features(
        self, output: Output, pooled: Tensor, counts: Sequence[int]
    ) -> Sequence[Features]:
        """Finish on the device, then bring to the host: an entry an image of `counts` inputs."""
        if len(set(counts)) == 1:
            return list(self._host(output, pooled.reshape(-1, counts[0], *pooled.shape[1:])))
        parts: Iterable[Tensor] = torch.split(pooled, list(counts))
        return [self._host(output, part.unsqueeze(0))[0] for part in parts]

    def _host(self, output: Output, values: Tensor) -> Features:
        """Merge and normalise (N, k, ...), and bring it to the host as float32."""
        whitenings = {w.digest: self._whitening(w) for w in output.whitenings}
        leading = 2 if output.merge == "stack" else 1
        merged = merge(output.merge, values)
        normalised = normalise(output.normalisation, merged, leading, whitenings)
        features: Features = normalised.to("cpu", torch.float32).contiguous().numpy()
        return features

    def _whitening(self, whitening: Whitening) -> tuple[Tensor, Tensor]:
        """Its mean and matrix on the device, which keeps those that were used last."""
        kept = self._whitenings.pop(whitening.digest, None)
        if kept is None:
            mean = torch.tensor(whitening.mean, device=self._device)
            kept = mean, torch.tensor(whitening.matrix, device=self._device)
        self._whitenings[whitening.digest] = kept
        if len(self._whitenings) > MAX_WHITENINGS:
            self._whitenings.popitem(last=False)
        return kept

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
        _, known, pre, _ = self.resolve_tap(tap)
        return self._traced.before(known.node) if pre else self._traced.node(known.node)

    def _arranged(self, output: Output, values: Tensor) -> Tensor:
        """What a node gave, as the tap hands it out; as a map where it is to be pooled."""
        _, tap, _, _ = self.resolve_tap(output.tap)
        whole = arranged(tap.layout, values)
        return whole if output.pooling == "none" else poolable(tap.kind, whole)

    def _program(self, nodes: tuple[fx.Node, ...]) -> fx.GraphModule:
        """The network up to these nodes and no further."""
        with self._lock:
            program = self._programs.pop(nodes, None) or self._traced.program(nodes)
            self._programs[nodes] = program
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)
            return program

    def _inputs(self, batch: Pixels) -> Tensor:
        """Exactly torchvision's ToTensor and Normalize, in channels-last layout.

        Where the network wants B, G, R the channels are turned round first, as bytes.
        """
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3:
            side = self.card.preprocessing.crop
            raise InvalidParameter(
                f"a batch for {self.card.name} is uint8 of (N, {side}, {side}, 3), or of another "
                f"size for a dense view, not {batch.dtype} of {batch.shape}"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        if self._reversed:
            pixels = pixels.flip(3)
        return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)

    def _per_channel(self, values: tuple[float, float, float]) -> Tensor:
        """Values for R, G, B in the network's order, to go with (N, 3, H, W)."""
        ordered = values[::-1] if self._reversed else values
        return torch.tensor(ordered, dtype=torch.float32, device=self._device).view(3, 1, 1)


def _order(lengths: Sequence[int], alike: Sequence[Sequence[int]]) -> list[int]:
    """Where the inputs of stacks are, in their order, once the stacks are put together `alike`."""
    starts = [0] * len(lengths)
    place = 0
    for number in itertools.chain.from_iterable(alike):
        starts[number] = place
        place += lengths[number]
    return [s + i for s, length in zip(starts, lengths, strict=True) for i in range(length)]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__

"""What every node of a network's graph gives, by arithmetic alone: shape, stride, receptive field.

The graph runs on shapes, and `engine/spread.py` says at each node what its places see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, fx

from offshelf.backbones.networks.skeleton import nbytes_of, skeleton
from offshelf.engine.graph import Traced
from offshelf.engine.spread import FOR_MAPS, Spread, Step, Window

if TYPE_CHECKING:
    from offshelf.backbones.interface import Build, Layout

# A prime that is no layer's width: an output whose first axis is as long is that of a batch.
BATCH: Final = 13


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What is known of a node. `shape` is handed out: without the batch, channels first.

    `problem` says why it cannot be handed out, empty where it can.
    """

    shape: tuple[int, ...] = ()
    layout: Layout = "plain"
    stride: int | None = None
    receptive_field: int | None = None
    offset: float | None = None
    problem: str = ""


class Survey:
    """All nodes of a network at one input size."""

    def __init__(self, build: Build, side: int) -> None:
        network = skeleton(build).to("meta")
        self.nbytes = nbytes_of(network)
        self.traced = Traced(network)
        walk = _Walk(self.traced)
        walk.extra_traceback = False
        with torch.inference_mode():
            walk.run(torch.empty(BATCH, 3, side, side, device="meta"))
        self._found = {node.name: found for node, found in walk.found.items()}

    def __getitem__(self, node: str) -> Surveyed:
        """By the node's name, or that of the module that it is the last of; KeyError."""
        return self._found[self.traced.node(node).name]

    def of(self, node: fx.Node) -> Surveyed:
        """Of a node of this network's graph, or of the same graph traced again."""
        return self._found[node.name]


class _Walk(fx.Interpreter):
    """Runs the graph on shapes and follows the spread of every tensor."""

    def __init__(self, traced: Traced) -> None:
        super().__init__(traced.whole())
        self.found: dict[fx.Node, Surveyed] = {}
        self._spreads: dict[fx.Node, Spread | None] = {}
        self._shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Compute the node, then what it sees; the result as it is."""
        result = super().run_node(n)
        if n.op == "output":
            return result
        if isinstance(result, Tensor):
            self._shapes[n] = tuple(result.shape)
        spread = self._spread(n, result)
        self._spreads[n] = spread
        self.found[n] = _described(result, spread, derived=self._from_input(n))
        return result

    def _from_input(self, node: fx.Node) -> bool:
        return node.op == "placeholder" or self._spreads[node] is not None

    def _spread(self, node: fx.Node, result: Any) -> Spread | None:
        """None for what does not depend on the image, or is no tensor."""
        if node.op == "placeholder":
            sides = (result.shape[2], result.shape[3])
            return Spread((2, 3), sides, (1, 1), (Window(0, 0, 1), Window(0, 0, 1)))
        sources = [n for n in node.all_input_nodes if self._spreads.get(n) is not None]
        if not sources or not _is_tensor(result):
            return None
        spreads = [s for s in (self._spreads[n] for n in sources) if s is not None]
        step = Step(node, self._called(node), result, sources, spreads, self._shapes)
        return self._read_as_map(node, step.spread())

    def _called(self, node: fx.Node) -> Any:
        return self.fetch_attr(str(node.target)) if node.op == "call_module" else node.target

    def _read_as_map(self, node: fx.Node, spread: Spread) -> Spread:
        """Axes that a rearrangement lost are known again where a layer for maps reads it."""
        shape = self._shapes.get(node, ())
        if spread.axes is not None or len(shape) != 4 or shape[2:] != spread.sides:
            return spread
        readers = (self._called(user) for user in node.users if user.op == "call_module")
        return spread.on((2, 3)) if any(isinstance(m, FOR_MAPS) for m in readers) else spread


def _is_tensor(result: Any) -> bool:
    """Whether it is a tensor, or several; a size is neither."""
    if isinstance(result, tuple | list):
        return bool(result) and isinstance(result[0], Tensor)
    return isinstance(result, Tensor)


def _described(result: Any, spread: Spread | None, *, derived: bool) -> Surveyed:
    if not isinstance(result, Tensor):
        return Surveyed(
            problem="it gives " + ("several" if _is_tensor(result) else "no") + " tensors"
        )
    if not derived or spread is None:
        return Surveyed(problem="it does not depend on the image")
    if not result.is_floating_point():
        return Surveyed(problem=f"its values are {str(result.dtype).removeprefix('torch.')}")
    if result.ndim < 2 or result.shape[0] != BATCH:
        return Surveyed(problem="its first axis is not that of the images")
    return _placed(tuple(result.shape[1:]), spread)


def _placed(shape: tuple[int, ...], spread: Spread) -> Surveyed:
    field, offset = _field(spread.windows)
    if spread.axes == (2, 3) and len(shape) == 3:
        return Surveyed(shape, "plain", _same(spread.jumps), field, offset)
    if spread.axes == (1, 2) and len(shape) == 3:
        turned = (shape[2], *shape[:2])
        return Surveyed(turned, "channels_last", _same(spread.jumps), field, offset)
    return Surveyed(shape, "plain" if len(shape) < 3 else "other", None, field, offset)


def _field(windows: tuple[Window, Window] | None) -> tuple[int | None, float | None]:
    """The larger side of the receptive field, and the centre of unit 0 where both axes agree."""
    if windows is None:
        return None, None
    centres = {(window.start + window.end) / 2 for window in windows}
    return max(w.end - w.start + 1 for w in windows), centres.pop() if len(centres) == 1 else None


def _same(jumps: tuple[int | None, int | None]) -> int | None:
    return jumps[0] if jumps[0] == jumps[1] else None

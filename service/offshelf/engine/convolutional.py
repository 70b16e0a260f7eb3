"""Runs a classifier's linear layers at every place of a map, so that inputs may be of any size.

A linear layer on a flattened C x H x W map is a convolution with an H x W kernel (VGG,
arXiv:1409.1556, section 3.2; Oquab et al., CVPR 2015). The rewritten graph shares the network's
parameters: the convolution is done as a product of the layer's own matrix with the map's windows,
so at the network's own size it is the very product of the plain layer.
"""

from __future__ import annotations

import copy
import itertools
import math
import operator
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from offshelf.engine.graph import Traced

# Shapes that are kept; each takes a tenth of a second to find.
MAX_SHAPES: Final = 256

_ADAPTIVE: Final = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_ADAPTIVE_CALLS: Final = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
# What works on every value for itself, so that it does to a map what it does to a vector.
_POINTWISE: Final = (
    nn.ReLU, nn.ReLU6, nn.Dropout, nn.Identity, nn.Hardswish, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh,
)  # fmt: skip
_POINTWISE_CALLS: Final = (
    F.relu, F.relu6, F.dropout, F.hardswish, F.silu, F.gelu, torch.relu, torch.sigmoid, torch.tanh,
)  # fmt: skip
# What meets a constant place by place.
_ARITHMETIC: Final = (
    operator.add, operator.sub, operator.mul, operator.truediv,
    torch.add, torch.sub, torch.mul, torch.div, "add", "sub", "mul", "div",
)  # fmt: skip
_POINTWISE_METHODS: Final = ("relu", "sigmoid", "tanh", "contiguous")


class AnySize:
    """A network of side x side inputs for inputs of any size; rewritten when first needed."""

    def __init__(self, traced: Traced, side: int) -> None:
        self._traced = traced
        self._side = side
        # Two locks: who finds a shape must not hold up the device's thread, which asks for twins.
        self._rewriting = threading.Lock()
        self._lock = threading.Lock()
        self._rewritten: tuple[Mapping[fx.Node, fx.Node], nn.Module] | None = None
        self._shapes: OrderedDict[tuple[fx.Node, int], tuple[int, ...]] = OrderedDict()

    def twin(self, node: fx.Node) -> fx.Node:
        """The node that gives at any size what a plain node gives at the network's own.

        InvalidParameter where the network has no convolutional form.
        """
        twins, _ = self._forms()
        return twins[node]

    def shape(self, node: fx.Node, side: int) -> tuple[int, ...]:
        """What a plain node's twin gives of one side x side input, without computing it.

        Raises whatever the layers raise where the network cannot run at that size; one for
        squares alone cannot at twice the width.
        """
        twins, empty = self._forms()
        with self._lock:
            shape = self._shapes.pop((node, side), None)
            if shape is None:
                program = self._traced.program((twins[node],), empty)
                shape, _ = (_shape(program, side, wide) for wide in (side, 2 * side))
            self._shapes[node, side] = shape
            if len(self._shapes) > MAX_SHAPES:
                self._shapes.popitem(last=False)
            return shape

    def _forms(self) -> tuple[Mapping[fx.Node, fx.Node], nn.Module]:
        """The twins of all nodes, and the network without its weights."""
        if self._rewritten is None:
            with self._rewriting:
                if self._rewritten is None:
                    empty = weightless(self._traced.root)
                    self._rewritten = rewrite(self._traced, empty, self._side), empty
        return self._rewritten


def weightless(network: nn.Module) -> nn.Module:
    """A copy of a network whose tensors are on the meta device: it knows shapes and no numbers."""
    copies: dict[int, Any] = {}
    # Tracing leaves what it computed from buffers, as a mean image, as a mere attribute.
    constants = (v for m in network.modules() for v in vars(m).values() if torch.is_tensor(v))
    for tensor in itertools.chain(network.parameters(), network.buffers(), constants):
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        copies[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
    return copy.deepcopy(network, copies)


def _shape(program: fx.GraphModule, high: int, wide: int) -> tuple[int, ...]:
    with torch.no_grad():
        # Not by a call, which prints the trace of what was raised: sizes that fail are no fault.
        (value,) = program.forward(torch.empty(1, 3, high, wide, device="meta"))
    return tuple(value.shape[1:])


def linear_everywhere(
    maps: Tensor, weight: Tensor, bias: Tensor | None, height: int, width: int
) -> Tensor:
    """A linear layer on each height x width window of maps (N, C, H, W), with stride 1.

    `weight` is (D, C * height * width); the answer (N, D, H - height + 1, W - width + 1).
    """
    if (height, width) == (1, 1):
        return F.linear(maps.movedim(1, -1), weight, bias).movedim(-1, 1)
    windows = F.unfold(maps, (height, width)).transpose(1, 2)
    values = F.linear(windows, weight, bias).transpose(1, 2)
    return values.reshape(len(maps), -1, maps.shape[2] - height + 1, maps.shape[3] - width + 1)


def rewrite(traced: Traced, empty: nn.Module, side: int) -> Mapping[fx.Node, fx.Node]:
    """The convolutional form of a network whose own input is side x side pixels.

    `empty` is the network without its weights. The answer has, for every plain node, the node
    of a new graph that stands for it.

    Adaptive pools that leave the map at that size as it is are dropped; a flattening of a map is
    dropped too, and the linear layers after it become convolutions. Where a map was pooled to
    one place before it is flattened nothing needs to change. A constant of the input's size, as
    a mean image, becomes one place where all its places are alike. Raises InvalidParameter where
    they are not, and where something else than linear and pointwise layers comes after a
    flattening.
    """
    shapes = shapes_of(traced.graph, empty, side)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(traced.graph, copies))
    rewriting = _Rewriting(traced, graph, copies, shapes)
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            rewriting.constant(node, side)
        elif node.op not in ("placeholder", "output"):
            rewriting.visit(node)
    return copies


def shapes_of(graph: fx.Graph, empty: nn.Module, side: int) -> dict[fx.Node, torch.Size]:
    """The shape of every tensor in a graph for one side x side input, by a weightless network."""
    found: dict[fx.Node, torch.Size] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                found[n] = value.shape
            return value

    walk = Recorder(fx.GraphModule(empty, graph))
    walk.extra_traceback = False
    with torch.no_grad():
        walk.run(torch.empty(1, 3, side, side, device="meta"))
    return found


class _Rewriting:
    """Goes through the plain nodes in order and changes their copies."""

    def __init__(
        self,
        traced: Traced,
        graph: fx.Graph,
        copies: dict[fx.Node, fx.Node],
        shapes: Mapping[fx.Node, torch.Size],
    ) -> None:
        self._traced = traced
        self._graph = graph
        self._copies = copies
        self._shapes = shapes
        # Plain nodes whose copies are maps, though they are vectors: the map's height and width.
        self._maps: dict[fx.Node, tuple[int, int]] = {}

    def visit(self, node: fx.Node) -> None:
        """Rewrite the copy of one node, if need be."""
        if node not in self._shapes:  # a size, or something else that is no tensor
            return
        sources = node.all_input_nodes
        unrolled = next((self._maps[source] for source in sources if source in self._maps), None)
        if unrolled is not None:
            self._after_flattening(node, unrolled)
        elif self._keeps_size(node):
            self._drop(node)
        elif (sides := self._flattened(node)) is not None:
            self._drop(node)
            self._maps[node] = sides

    def constant(self, node: fx.Node, side: int) -> None:
        """Let a constant of the input's size be one place, if it is the same at all of them."""
        if self._shapes.get(node, torch.Size())[-2:] != (side, side):
            return
        if not any(user.target in _ARITHMETIC for user in node.users):
            return
        values = operator.attrgetter(str(node.target))(self._traced.root)
        if not torch.equal(values, values[..., :1, :1].expand_as(values)):
            raise InvalidParameter(
                f"it subtracts a mean image of {side} x {side} pixels, or combines its input with "
                "another constant of that size that differs from place to place, which says "
                "nothing of other sizes; weights with the mean pixel alone would do"
            )
        twin = self._copies[node]
        with self._graph.inserting_after(twin):
            place: Any = (..., slice(0, 1), slice(0, 1))
            one = self._graph.call_function(operator.getitem, (twin, place))
        twin.replace_all_uses_with(one, delete_user_cb=lambda user: user is not one)
        self._copies[node] = one

    def _after_flattening(self, node: fx.Node, sides: tuple[int, int]) -> None:
        layer = self._layer(node)
        if isinstance(layer, nn.Linear):
            self._spread(node, sides)
            self._maps[node] = (1, 1)
        elif self._is_pointwise(node, layer):
            self._maps[node] = sides
        elif self._is_flattening(node):
            self._drop(node)
            self._maps[node] = sides
        else:
            raise InvalidParameter(
                f"its {node.name} comes after a flattened map, and cannot run at every place of one"
            )

    def _spread(self, node: fx.Node, sides: tuple[int, int]) -> None:
        """Let the copy of a linear layer run at every place."""
        twin = self._copies[node]
        with self._graph.inserting_before(twin):
            weight = self._graph.get_attr(f"{node.target}.weight")
            bias = None
            if self._layer(node).bias is not None:  # type: ignore[union-attr]  # it is a Linear
                bias = self._graph.get_attr(f"{node.target}.bias")
            spread = self._graph.call_function(
                linear_everywhere, (twin.all_input_nodes[0], weight, bias, *sides)
            )
        self._replace(node, spread)

    def _drop(self, node: fx.Node) -> None:
        self._replace(node, self._copies[node].all_input_nodes[0])

    def _replace(self, node: fx.Node, other: fx.Node) -> None:
        """Let `other` stand for the copy of a node everywhere."""
        twin = self._copies[node]
        twin.replace_all_uses_with(other)
        self._graph.erase_node(twin)
        self._copies[node] = other

    def _keeps_size(self, node: fx.Node) -> bool:
        """Whether it is an adaptive pool to the size that the map has, of more than one place."""
        called = node.op == "call_function" and node.target in _ADAPTIVE_CALLS
        if not called and not isinstance(self._layer(node), _ADAPTIVE):
            return False
        before = self._shapes.get(node.all_input_nodes[0])
        return before is not None and before == self._shapes[node] and before[2:] != (1, 1)

    def _flattened(self, node: fx.Node) -> tuple[int, int] | None:
        """Height and width of the map that it flattens; None where it does not, or to no end."""
        if not self._is_flattening(node):
            return None
        before, after = self._shapes.get(node.all_input_nodes[0]), self._shapes.get(node)
        if before is None or after is None or len(before) != 4 or before[2:] == (1, 1):
            return None
        is_vector = after == (1, math.prod(before[1:]))
        return (before[2], before[3]) if is_vector else None

    def _is_flattening(self, node: fx.Node) -> bool:
        if node.op == "call_function":
            return node.target is torch.flatten
        if node.op == "call_method":
            return node.target in ("flatten", "view", "reshape")
        return isinstance(self._layer(node), nn.Flatten)

    def _is_pointwise(self, node: fx.Node, layer: nn.Module | None) -> bool:
        if node.op == "call_function":
            return node.target in _POINTWISE_CALLS
        if node.op == "call_method":
            return node.target in _POINTWISE_METHODS
        return isinstance(layer, _POINTWISE)

    def _layer(self, node: fx.Node) -> nn.Module | None:
        if node.op != "call_module":
            return None
        return self._traced.root.get_submodule(str(node.target))

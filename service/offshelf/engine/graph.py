"""A network as a graph of named nodes without in-place writes, from which parts can be cut.

An in-place ReLU overwrites what was there before it, so a hook on `fc7:pre` would see `fc7`.
Here every in-place operation is made to write elsewhere once, when the network is traced. When a
part is cut out, activations whose input nobody wants write in place again.
"""

from __future__ import annotations

import inspect
import operator
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from offshelf.backbones.networks.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_OUT_OF_PLACE: Final[dict[Any, Callable[..., Any]]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.imatmul: operator.matmul,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}

_MAKE_A_NEW_TENSOR: Final = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)

# Activations that can write over their input: by what function, and its keywords.
_IN_PLACE: Final[dict[Any, tuple[Callable[..., Any], dict[str, Any]]]] = {
    nn.ReLU: (torch.relu_, {}),
    F.relu: (torch.relu_, {}),
    nn.ReLU6: (F.relu6, {"inplace": True}),
    nn.SiLU: (F.silu, {"inplace": True}),
    nn.Hardswish: (F.hardswish, {"inplace": True}),
}

_ACTIVATIONS: Final = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip
_ACTIVATION_NAMES: Final = frozenset(kind.__name__.lower() for kind in _ACTIVATIONS) | {
    "leaky_relu"
}


class Traced:
    """A network in eval mode as a graph; parts of it share its parameters.

    Nodes have the names that `torchvision.models.feature_extraction` gives them.
    """

    def __init__(self, network: nn.Module) -> None:
        tracer = Tracer()
        graph = tracer.trace(network.eval())
        self.root: nn.Module = tracer.root
        self._graph = graph
        make_out_of_place(network, graph)
        self._names: dict[fx.Node, str] = dict(tracer.node_to_qualname)
        self._nodes = {name: node for node, name in self._names.items()}

    def node(self, name: str) -> fx.Node:
        """The node of that name, or the last one of the module of that name; else KeyError."""
        found = self._nodes.get(name)
        if found is None:
            inside = (n for q, n in reversed(self._nodes.items()) if q.startswith(f"{name}."))
            found = next(inside, None)
        if found is None:
            raise KeyError(name)
        return found

    def name(self, node: fx.Node) -> str:
        """The name of a node in torchvision's notation."""
        return self._names[node]

    def names(self) -> list[str]:
        """The names of all nodes, in network order."""
        return list(self._nodes)

    def before(self, name: str) -> fx.Node:
        """What goes into the node of that name: for an activation, the pre-activation."""
        return self.node(name).all_input_nodes[0]

    def is_activation(self, name: str) -> bool:
        """Whether the node is a pointwise nonlinearity, so that what goes into it has a name."""
        node = self.node(name)
        if node.op == "call_module":
            return isinstance(self.root.get_submodule(str(node.target)), _ACTIVATIONS)
        called = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        return called in _ACTIVATION_NAMES

    @property
    def graph(self) -> fx.Graph:
        """The graph that all nodes are of."""
        graph: fx.Graph = self._graph
        return graph

    def whole(self) -> fx.GraphModule:
        """A module that computes all of the network."""
        return fx.GraphModule(self.root, self._graph)

    def program(self, nodes: Sequence[fx.Node], network: nn.Module | None = None) -> fx.GraphModule:
        """A module that computes these nodes, as a tuple, and nothing beyond them.

        They may be of another graph over the same network, all of the same one; `network` is a
        copy of the network to run instead of it.
        """
        part = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        part.graph_copy(nodes[0].graph, copies)
        part.output(tuple(copies[node] for node in nodes))
        module = fx.GraphModule(network or self.root, part)
        # Everything after the deepest of the nodes has no user now.
        module.graph.eliminate_dead_code()
        reuse_buffers(module)
        module.recompile()
        return module


def reuse_buffers(module: fx.GraphModule) -> None:
    """Let an activation write over its input where nobody can see it: a twentieth of the time.

    So it is where the input is what a layer has just made, only the activation reads it, and it
    is not handed out.
    """
    for node in module.graph.nodes:
        called = _layer(module, node) if node.op == "call_module" else node.target
        kind = type(called) if isinstance(called, nn.Module) else called
        if kind not in _IN_PLACE:
            continue
        (source,) = node.all_input_nodes
        if len(source.users) == 1 and isinstance(_layer(module, source), _MAKE_A_NEW_TENSOR):
            node.target, node.kwargs = _IN_PLACE[kind]
            node.op, node.args = "call_function", (source,)


def _layer(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def make_out_of_place(network: nn.Module, graph: fx.Graph) -> None:
    """Turn every in-place operation of a traced network into one that writes elsewhere.

    Whatever read the overwritten tensor afterwards reads the result instead, as it did before.
    Raises ValueError for an in-place operation without a twin.
    """
    # One module may be called from several nodes: all are asked before any flag is cleared.
    writers = {name: m for name, m in network.named_modules() if getattr(m, "inplace", False)}
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if _rewritten(writers, node):
            overwritten = node.all_input_nodes[0]
            for user in list(overwritten.users):
                if order[user] > order[node]:
                    user.replace_input_with(overwritten, node)
    for module in writers.values():
        module.inplace = False


def _rewritten(writers: Mapping[str, nn.Module], node: fx.Node) -> bool:
    """Make one node out of place; whether it was in place. Modules are left to the caller."""
    if node.op == "call_module":
        return str(node.target) in writers
    if node.op == "call_function":
        return _function_rewritten(node)
    if node.op == "call_method":
        return _method_rewritten(node)
    return False


def _method_rewritten(node: fx.Node) -> bool:
    name = str(node.target)
    if not name.endswith("_") or name.endswith("__"):
        return False
    if not hasattr(torch.Tensor, name[:-1]):
        raise ValueError(f"{node.name} writes in place by {name}, which has no other form")
    node.target = name[:-1]
    return True


def _function_rewritten(node: fx.Node) -> bool:
    function: Any = node.target
    if function is operator.setitem:
        raise ValueError(f"{node.name} assigns to a part of a tensor, which has no other form")
    if function in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[function]
        return True
    twin = _twin(function)
    if twin is not None:
        node.target = twin
        return True
    return _flag_cleared(node, function)


def _twin(function: Any) -> Callable[..., Any] | None:
    """Of a torch function that by its name writes in place (torch.relu_), the other form."""
    name: str = getattr(function, "__name__", "")
    for home in (torch.nn.functional, torch):
        if name.endswith("_") and getattr(home, name, None) is function:
            twin: Callable[..., Any] | None = getattr(home, name[:-1], None)
            if twin is None:
                raise ValueError(f"{name} writes in place and has no other form")
            return twin
    return None


def _flag_cleared(node: fx.Node, function: Any) -> bool:
    """Set `inplace=False` where a call says otherwise, by keyword or by position."""
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:  # a builtin without a signature has no such flag
        return False
    place = names.index("inplace") if "inplace" in names else len(node.args)
    if place >= len(node.args) or not node.args[place]:
        return False
    node.args = (*node.args[:place], False, *node.args[place + 1 :])
    return True

"""What a network's graph says without running it: names of nodes, their order, their shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx

    from offshelf.backbones.interface import Build


class Shapes:
    """The shapes of a network's nodes for inputs of 3 x side x side pixels.

    Nodes have the names that `torchvision.models.feature_extraction` gives them; a module's name
    stands for the last node in it. Raises ValueError where torch.fx cannot trace the network, or
    it does not take that size.
    """

    def __init__(self, build: Build, side: int) -> None:
        import torch
        from torch import fx

        from offshelf.backbones.networks.skeleton import skeleton
        from offshelf.backbones.networks.tracer import Tracer

        network = skeleton(build).eval().to("meta")
        tracer = Tracer()
        try:
            graph = tracer.trace(network)
        except Exception as error:  # what a network's own code raises over a proxy, of any type
            raise ValueError(f"torch.fx cannot trace it: {_first_line(error)}") from error
        # On the meta device nothing is computed, so all values may be kept.
        walk = fx.Interpreter(fx.GraphModule(tracer.root, graph), garbage_collect_values=False)
        walk.extra_traceback = False
        try:
            with torch.inference_mode():
                walk.run(torch.empty(1, 3, side, side, device="meta"))
        except Exception as error:
            raise ValueError(
                f"it does not take {side} x {side} pixels: {_first_line(error)}"
            ) from error
        self._values: dict[fx.Node, Any] = walk.env
        self._names: dict[fx.Node, str] = dict(tracer.node_to_qualname)
        self._nodes = {name: node for node, name in self._names.items()}
        self._last = next(node for node in graph.nodes if node.op == "output")

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a node's output for one image; ValueError where it is not one tensor."""
        inside = self._inside(name)
        if not inside:
            raise ValueError(f"its graph has no node {name}")
        found = self._values.get(self._nodes.get(name, inside[-1]))
        if found is None or not hasattr(found, "shape"):
            raise ValueError(f"its node {name} does not give one tensor")
        return tuple(found.shape[1:])

    def output(self) -> str:
        """The node that the network returns; ValueError where it returns several."""
        return self._one("its output", self._last.all_input_nodes)

    def before(self, module: str) -> str:
        """The node that a module reads; ValueError where there is not one."""
        inside = self._inside(module)
        outside = [n for node in inside for n in node.all_input_nodes if n not in inside]
        return self._one(f"its module {module}", list(dict.fromkeys(outside)))

    def _inside(self, module: str) -> list[fx.Node]:
        """The nodes of a module, in the order of the graph."""
        return [n for n, name in self._names.items() if f"{name}.".startswith(f"{module}.")]

    def _one(self, what: str, nodes: list[fx.Node]) -> str:
        if len(nodes) != 1:
            raise ValueError(f"{what} comes of {len(nodes)} nodes, not of one")
        return self._names[nodes[0]]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__} {lines[0][:200] if lines else ''}".rstrip()

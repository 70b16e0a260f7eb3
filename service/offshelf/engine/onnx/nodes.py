"""Writes ONNX graphs node by node: what is ours in an exported file is what stands here."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf.errors import NotAcceptable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

OPSET: Final = 20
# The version of the file format that came with this opset; readers refuse newer ones.
IR_VERSION: Final = 9


def needs_onnx(*packages: str) -> None:
    """NotAcceptable, with what to install, unless these packages are here."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise NotAcceptable(
            f"this export needs {', '.join(missing)} where it is made: pip install 'offshelf[onnx]'"
        )


@dataclass(slots=True)
class Nodes:
    """Nodes in the order they run, and their constants. Names begin with `prefix`."""

    prefix: str
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; its name, which is `output` where that is given."""
        from onnx import helper

        name = output or f"{self.prefix}/{len(self.nodes)}/{kind}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def cast(self, value: str, kind: type[np.generic]) -> str:
        """Add a conversion to numpy's type `kind`."""
        from onnx import helper

        return self.op("Cast", value, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(kind))))

    def either(
        self, condition: str, then: Callable[[Nodes], str], otherwise: Callable[[Nodes], str]
    ) -> str:
        """Add one of two float64 branches, by a truth; each adds its nodes to those it is given."""
        name = f"{self.prefix}/{len(self.nodes)}/If"
        branches = {
            "then_branch": self._branch(f"{name}/then", then),
            "else_branch": self._branch(f"{name}/else", otherwise),
        }
        return self.op("If", condition, output=name, **branches)

    def _branch(self, prefix: str, fill: Callable[[Nodes], str]) -> GraphProto:
        from onnx import TensorProto, helper

        inside = Nodes(prefix)
        output = helper.make_tensor_value_info(fill(inside), TensorProto.DOUBLE, None)
        return helper.make_graph(inside.nodes, prefix, [], [output], inside.constants)

    def constant(self, value: NDArray[Any] | float | Sequence[int], dtype: Any = None) -> str:
        """Add a tensor; its name. Numbers are float64 and sequences int64 unless `dtype` says."""
        from onnx import numpy_helper

        if dtype is None and not isinstance(value, np.ndarray):
            dtype = np.float64 if isinstance(value, int | float) else np.int64
        name = f"{self.prefix}/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name


def tensor(name: str, kind: Any, shape: Sequence[int | str]) -> ValueInfoProto:
    """An input or output of numpy's type `kind`; axes that are named may have any length."""
    from onnx import helper

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    parts: Sequence[Nodes],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    metadata: Mapping[str, str],
) -> ModelProto:
    """A checked model of parts that run one after the other, with texts by name beside it."""
    import onnx
    from onnx import helper

    graph = helper.make_graph(
        [node for part in parts for node in part.nodes],
        "offshelf",
        list(inputs),
        list(outputs),
        [constant for part in parts for constant in part.constants],
    )
    made = helper.make_model(
        graph,
        producer_name="offshelf",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(made, dict(metadata))
    onnx.checker.check_model(made)
    return made

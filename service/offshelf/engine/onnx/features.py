"""A network as ONNX: from the inputs of images to their features, by torch's own exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import onnx
import torch
from onnx import compose
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from offshelf.core.normalisation import Chain
from offshelf.core.spec import Pooling
from offshelf.engine.finishing import merge, pool
from offshelf.engine.layout import arranged, poolable
from offshelf.engine.onnx.nodes import IR_VERSION, OPSET
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from torch import Tensor

    from offshelf.engine.interface import Output
    from offshelf.engine.torch_resident import TorchResident

INPUTS: Final = "inputs"
FEATURES: Final = "features"
IMAGES: Final = "images"  # the axis that may have any length


class FeatureNetwork(nn.Module):
    """Inputs (N, k, 3, S, S) of N images, whole numbers from 0 to 255, to features (N, D).

    The same as `TorchResident.forward`, by operations that ONNX has too.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, resident: TorchResident, output: Output) -> None:
        super().__init__()
        self.network, self._tap = resident.part(output.tap)
        self._output = output
        self._pooling = Pooling.parse(output.pooling)
        self._steps = Chain.parse(output.normalisation).steps
        pre = resident.card.preprocessing
        self._reversed = pre.channels == "bgr"
        order = slice(None, None, -1 if self._reversed else 1)
        for name, values in (("mean", pre.mean), ("std", pre.std)):
            self.register_buffer(name, torch.tensor(values[order]).view(3, 1, 1))
        for place, whitening in enumerate(output.whitenings):
            self.register_buffer(f"mean_{place}", torch.tensor(whitening.mean))
            self.register_buffer(f"matrix_{place}", torch.tensor(whitening.matrix))

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (N, D) float32, flattened as a head takes them."""
        pixels = inputs.flatten(0, 1)
        if self._reversed:
            pixels = pixels.flip(1)
        (values,) = self.network((pixels / 255 - self.mean) / self.std)
        pooled = self._pooled(arranged(self._tap.layout, values))
        merged = merge(self._output.merge, pooled.reshape(-1, inputs.shape[1], *pooled.shape[1:]))
        return self._normalised(merged).flatten(1)

    def _pooled(self, values: Tensor) -> Tensor:
        wanted = self._pooling
        if wanted.kind == "none":
            return values
        maps = poolable(self._tap.kind, values)
        if maps.ndim != 4 or wanted.levels == (1,):
            return pool(self._output.pooling, maps)
        return torch.cat([_grid(maps, wanted.kind, cells) for cells in wanted.levels], 1)

    def _normalised(self, values: Tensor) -> Tensor:
        leading = 2 if self._output.merge == "stack" else 1
        whitened = 0
        for step in self._steps:
            if step.kind == "power":
                values = values.sign() * values.abs().pow(step.power)
            elif step.kind == "l2":
                values = _unit(values.flatten(leading)).view(values.shape)
            else:
                mean = self.get_buffer(f"mean_{whitened}")
                matrix = self.get_buffer(f"matrix_{whitened}")
                values = F.linear(values.flatten(leading) - mean, matrix)
                whitened += 1
        return values


def exported(network: FeatureNetwork, inputs: int, side: int) -> onnx.ModelProto:
    """An ONNX model from `inputs` to `features`, for any number of images.

    Raises InvalidParameter where torch's exporter cannot follow the network.
    """
    example = torch.zeros(2, inputs, 3, side, side)
    images = torch.export.Dim(IMAGES, min=1)
    try:
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            input_names=[INPUTS],
            output_names=[FEATURES],
            dynamic_shapes=({0: images},),
            opset_version=OPSET,
            verbose=False,
        )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InvalidParameter(f"this network has no ONNX form: {first}") from error
    assert program is not None  # noqa: S101 - so it is of every export that is not to a file
    made: onnx.ModelProto = program.model_proto
    return _anonymous(made)


def _anonymous(made: onnx.ModelProto) -> onnx.ModelProto:
    """Without what tells of this machine (paths of source files) and is of no use elsewhere."""
    made.ir_version = IR_VERSION
    del made.metadata_props[:]
    for node in made.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*made.graph.value_info, *made.graph.initializer):
        del value.metadata_props[:]
    return compose.add_prefix(made, "network/", rename_inputs=False, rename_outputs=False)


def _grid(maps: Tensor, kind: str, cells: int) -> Tensor:
    """Adaptive pooling (N, C * cells * cells) by slices: cells overlap where sizes do not divide.

    They begin and end where torch's adaptive pooling has them.
    """
    high, wide = maps.shape[2:]
    found = []
    for top, bottom in _bounds(high, cells):
        for left, right in _bounds(wide, cells):
            cell = maps[:, :, top:bottom, left:right]
            found.append(cell.mean((2, 3)) if kind == "avg" else cell.amax((2, 3)))
    return torch.stack(found, 2).flatten(1)


def _bounds(length: int, cells: int) -> list[tuple[int, int]]:
    return [(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)]


def _unit(rows: Tensor) -> Tensor:
    """Each divided by its norm, first scaled so that no square leaves the range of float32."""
    largest = rows.abs().amax(-1, keepdim=True)
    scaled = rows / torch.where(largest > 0, largest, torch.ones_like(largest))
    norms = scaled.square().sum(-1, keepdim=True).sqrt()
    return scaled / torch.where(norms > 0, norms, torch.ones_like(norms))

"""Receptive fields as they are measured: by the gradient of one unit with respect to the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812

from offshelf.backbones.networks.skeleton import skeleton
from offshelf.engine.graph import Traced

if TYPE_CHECKING:
    from offshelf.backbones.interface import Card, Tap

Box: TypeAlias = tuple[int, int, int, int]


def box_of_card(card: Card, tap: Tap) -> Box:
    """Where a central unit looks by the card: (top, left, bottom, right), inside the image."""
    assert tap.receptive_field is not None
    assert tap.offset is not None
    row, column = _centre(tap)
    side, reach = card.preprocessing.crop, (tap.receptive_field - 1) / 2
    centres = [tap.offset + place * (tap.stride or 0) for place in (row, column)]
    first = [max(0, round(c - reach)) for c in centres]
    last = [min(side - 1, round(c + reach)) for c in centres]
    return (*first, *last)  # type: ignore[return-value]  # two and two


def measured_box(card: Card, tap: Tap) -> Box:
    """Where a central unit looks by its gradient.

    So that nothing hides a pixel, all weights are positive and pixels are too: no ReLU is shut
    and no two ways cancel. A maximum hands its gradient to one place of its window, and any of
    them might be it: means over the same windows stand for maxima. A ReLU6 that is full hands
    down none: it has no upper bound here.
    """
    traced = Traced(skeleton(card.build))
    program = _averaging(traced.program([traced.node(tap.node)]))
    program.delete_all_unused_submodules()
    _fill(program)
    side = card.preprocessing.crop
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).add_(0.5)
    (values,) = program(pixels.requires_grad_())
    _unit(tap, values).sum().backward()
    assert pixels.grad is not None
    rows, columns = pixels.grad[0].abs().sum(0).nonzero(as_tuple=True)
    return (int(rows.min()), int(columns.min()), int(rows.max()), int(columns.max()))


def _centre(tap: Tap) -> tuple[int, int]:
    return (tap.shape[1] // 2, tap.shape[2] // 2) if tap.is_map else (0, 0)


def _unit(tap: Tap, values: torch.Tensor) -> torch.Tensor:
    """All channels of a map's central place; all of a vector."""
    if not tap.is_map:
        return values
    row, column = _centre(tap)
    return values[:, row, column] if tap.layout == "channels_last" else values[:, :, row, column]


def _averaging(program: fx.GraphModule) -> fx.GraphModule:
    for name, module in list(program.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            program.set_submodule(name, mean)
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target is F.max_pool2d:
            node.target = F.avg_pool2d
            kept = ("stride", "padding", "ceil_mode")
            node.kwargs = {name: node.kwargs[name] for name in kept if name in node.kwargs}
        elif node.target is F.relu6:
            node.target, node.kwargs = F.relu, {}
    program.recompile()
    return program


def _fill(program: fx.GraphModule) -> None:
    """Give every tensor numbers: means over positive weights keep the signal at its size."""
    program.to_empty(device="cpu").requires_grad_(requires_grad=False)
    random = torch.Generator().manual_seed(0)
    for name, tensor in program.named_parameters():
        tensor.uniform_(0.5, 1.5, generator=random)
        if tensor.ndim > 1:
            tensor.div_(tensor[0].numel())
        elif name.endswith("bias"):
            tensor.zero_()
    for name, tensor in program.named_buffers():
        tensor.fill_(1 if name.endswith("running_var") else 0)

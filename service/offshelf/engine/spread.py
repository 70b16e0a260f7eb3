"""Where a tensor's places look in the input image, and what each operation makes of that.

The sums are those of Araujo, Norris and Sim, "Computing receptive fields of convolutional neural
networks" (Distill, 2019). The places that a unit sees are kept as an interval of input pixels, so
that branches unite exactly, whatever their paddings.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812  # its usual name
from torchvision.ops import StochasticDepth, stochastic_depth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """The input pixels, first to last, that unit 0 along one axis sees; unit i is `jump` further.

    Pixels before the image count, so `start` may be negative. `jump` is None behind a global
    pool or a layer that reads the whole map.
    """

    start: int
    end: int
    jump: int | None


@dataclass(frozen=True, slots=True)
class Spread:
    """How a tensor's values lie over the image.

    `axes` are the tensor's axes of height and width, None where there are none. `sides` are the
    height and width of the last map on the way, `jumps` its units' distance in input pixels.
    `windows` is None as soon as something has mixed all places.
    """

    axes: Pair | None
    sides: Pair
    jumps: tuple[int | None, int | None]
    windows: tuple[Window, Window] | None

    def on(self, axes: Pair | None) -> Spread:
        """The same with other axes."""
        return replace(self, axes=axes)

    def mixed(self) -> Spread:
        """The same after something that lets every place see every other."""
        return replace(self, windows=None)


@dataclass(frozen=True, slots=True)
class Step:
    """One node: what it calls, what came of it, and the tensors of the image that it reads."""

    node: fx.Node
    called: Any
    result: Any
    sources: Sequence[fx.Node]
    spreads: Sequence[Spread]
    shapes: dict[fx.Node, tuple[int, ...]]

    @property
    def before(self) -> tuple[int, ...]:
        """The shape of the first source; empty for a tuple."""
        return self.shapes.get(self.sources[0], ())

    @property
    def after(self) -> tuple[int, ...]:
        """The shape of the result; of its first part where it is a tuple."""
        first = self.result[0] if isinstance(self.result, tuple | list) else self.result
        return tuple(first.shape) if isinstance(first, Tensor) else ()

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument of the call, by position or by name."""
        args = self.node.args
        return args[place] if len(args) > place else self.node.kwargs.get(name, default)

    def spread(self) -> Spread:
        """By the kind of the operation; one that is not known mixes all places."""
        if self.called in (torch.cat, torch.concat):
            return _joined(self)
        if len(self.spreads) > 1:
            return _united(self) if _kind(self.called) in _POINTWISE else _unknown(self)
        rule = _RULES.get(_kind(self.called))
        if rule is not None:
            return rule(self)
        return self.spreads[0] if _kind(self.called) in _POINTWISE else _unknown(self)


def _kind(called: Any) -> Any:
    """A module's class, a function, or a method's name."""
    return type(called) if isinstance(called, nn.Module) else called


def _unknown(step: Step) -> Spread:
    """Places are mixed. Axes stay where the rank does; the jump by how much the sides shrink."""
    first = step.spreads[0].mixed()
    if first.axes is None or len(step.after) != len(step.before):
        return first.on(None)
    sides = (step.after[first.axes[0]], step.after[first.axes[1]])
    jumps = tuple(
        jump * old // new if jump is not None and new and old % new == 0 else None
        for jump, old, new in zip(first.jumps, first.sides, sides, strict=True)
    )
    return replace(first, sides=sides, jumps=(jumps[0], jumps[1]))


def _united(step: Step) -> Spread:
    """A sum, product or concatenation of branches: each unit sees what any of them sees."""
    spreads = step.spreads
    maps = [s for s in spreads if s.axes is not None and max(s.sides) > 1] or list(spreads)
    best = maps[0]
    aligned = len(maps) == len(spreads) and all(s.jumps == best.jumps for s in spreads)
    windows = [s.windows for s in spreads if s.windows is not None]
    if not aligned or len(windows) < len(spreads):
        return best.mixed()
    down, across = zip(*windows, strict=True)
    return replace(best, windows=(_union(down), _union(across)))


def _joined(step: Step) -> Spread:
    """A concatenation: of channels; or of rows or columns, which leaves no place where it was."""
    dim = step.argument(1, "dim", 0) % len(step.after)
    return _unknown(step) if dim in (step.spreads[0].axes or ()) else _united(step)


def _union(windows: Sequence[Window]) -> Window:
    start, end = min(w.start for w in windows), max(w.end for w in windows)
    return Window(start, end, windows[0].jump)


def _slid(step: Step) -> Spread:
    """A convolution or a pool: kernel, stride, padding and dilation of each axis."""
    first = step.spreads[0]
    rank = len(step.before)
    if first.axes != (rank - 2, rank - 1):
        sides = (step.after[-2], step.after[-1])
        return replace(first.mixed(), axes=(rank - 2, rank - 1), sides=sides, jumps=(None, None))
    numbers = _window_numbers(step)
    jumps, windows = [], []
    for axis, (kernel, stride, padding, dilation) in enumerate(numbers):
        jump = first.jumps[axis]
        jumps.append(None if jump is None else jump * stride)
        if first.windows is not None:
            windows.append(_stepped(first.windows[axis], kernel, stride, padding, dilation))
    return Spread(
        first.axes,
        (step.after[-2], step.after[-1]),
        (jumps[0], jumps[1]),
        (windows[0], windows[1]) if windows else None,
    )


def _convolved(step: Step) -> Spread:
    """A convolution by a call; of the image's own maps by kernels that do not depend on it."""
    read, weight = step.argument(0, "input"), step.argument(1, "weight")
    known = read is step.sources[0] and weight in step.shapes
    return _slid(step) if known else _unknown(step)


def _stepped(window: Window, kernel: int, stride: int, padding: int, dilation: int) -> Window:
    if window.jump is None:  # one unit that sees it all; padding adds nothing
        return window
    start = window.start - padding * window.jump
    reach = dilation * (kernel - 1) * window.jump
    return Window(start, window.end + start - window.start + reach, window.jump * stride)


def _window_numbers(step: Step) -> list[tuple[int, int, int, int]]:
    """(kernel, stride, padding, dilation) down and across; padding is that before unit 0."""
    called = step.called
    if called is F.conv2d:
        kernel: Any = step.shapes[step.argument(1, "weight")][2:]
        stride, padding, dilation = (
            step.argument(place, name, default)
            for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
        )
    elif isinstance(called, nn.Module):
        kernel, stride = called.kernel_size, called.stride
        padding, dilation = called.padding, getattr(called, "dilation", 1)
    else:
        kernel = step.argument(1, "kernel_size")
        stride = step.argument(2, "stride")
        padding = step.argument(3, "padding", 0)
        dilation = step.argument(4, "dilation", 1) if "max" in called.__name__ else 1
    pairs = [_pair(v) for v in (kernel, kernel if stride in (None, []) else stride)]
    pairs += [_padding(padding, pairs[0], _pair(dilation)), _pair(dilation)]
    return [(pairs[0][i], pairs[1][i], pairs[2][i], pairs[3][i]) for i in range(2)]


def _padding(padding: Any, kernel: Pair, dilation: Pair) -> Pair:
    """In pixels; of torch's `same`, an odd one goes behind the map."""
    if padding == "same":
        return dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2
    return (0, 0) if padding == "valid" else _pair(padding)


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _pooled(step: Step) -> Spread:
    """An adaptive pool: the identity, global, or something whose cells differ."""
    first = step.spreads[0]
    sides = (step.after[-2], step.after[-1])
    if first.axes is None or sides == first.sides:
        return first
    return _whole(first).on(first.axes) if sides == (1, 1) else _unknown(step)


def _whole(spread: Spread) -> Spread:
    """One place that sees whatever any place of the map sees."""
    windows = spread.windows
    if windows is not None:
        wide = [_widened(w, side) for w, side in zip(windows, spread.sides, strict=True)]
        windows = (wide[0], wide[1])
    return Spread(None, (1, 1), (None, None), windows)


def _widened(window: Window, side: int) -> Window:
    return Window(window.start, window.end + (side - 1) * (window.jump or 0), None)


def _mean(step: Step) -> Spread:
    first = step.spreads[0]
    over = step.argument(1, "dim")
    dims = [d % len(step.before) for d in ([over] if isinstance(over, int) else over or ())]
    return _whole(first) if first.axes and sorted(dims) == list(first.axes) else _unknown(step)


def _linear(step: Step) -> Spread:
    """Over channels for a map with channels last, and for tokens; over everything for a vector."""
    first = step.spreads[0]
    if first.axes is not None:
        return first if len(step.before) - 1 not in first.axes else _unknown(step)
    return _whole(first) if len(step.before) == 2 else first


def _layer_norm(step: Step) -> Spread:
    """Over channels alone it is pointwise; over more it mixes places."""
    shape = getattr(step.called, "normalized_shape", None) or step.argument(1, "normalized_shape")
    first = step.spreads[0]
    axes = first.axes or ()
    return first if len(shape) == 1 and len(step.before) - 1 not in axes else first.mixed()


def _permuted(step: Step) -> Spread:
    first = step.spreads[0]
    if isinstance(step.called, nn.Module):
        order = getattr(step.called, "dims", ())
    else:
        order = step.argument(1, "dims")
        order = step.node.args[1:] if isinstance(order, int) else order
    places = [d % len(step.before) for d in order]
    return _moved(first, places)


def _transposed(step: Step) -> Spread:
    rank = len(step.before)
    one, other = (d % rank for d in (step.argument(1, "dim0"), step.argument(2, "dim1")))
    order = list(range(rank))
    order[one], order[other] = other, one
    return _moved(step.spreads[0], order)


def _moved(spread: Spread, order: Sequence[int]) -> Spread:
    if spread.axes is None:
        return spread
    down, across = (order.index(axis) for axis in spread.axes)
    return spread.on((down, across))


def _reshaped(step: Step) -> Spread:
    """Axes stay where the last two do; else they are lost, and with them what a place is."""
    first = step.spreads[0]
    rank = len(step.before)
    if first.axes == (rank - 2, rank - 1) and step.after[-2:] == step.before[-2:]:
        return first.on((len(step.after) - 2, len(step.after) - 1))
    if len(step.after) <= 3:  # flattened: every value still sees its own places
        return first.on(None)
    return first.mixed().on(None)


def _picked(step: Step) -> Spread:
    """`x[...]`: one of several tensors, or a part of one."""
    first, index = step.spreads[0], step.argument(1, "index")
    if not step.before:
        return first
    if first.axes is None:
        return first
    index = index if isinstance(index, tuple) else (index,)
    whole = [i for i, part in enumerate(index) if part == slice(None)]
    dropped = [i for i, part in enumerate(index) if isinstance(part, int)]
    touched = set(range(len(index))) - set(whole)
    if touched & set(first.axes) or len(whole) + len(dropped) != len(index):
        return _unknown(step)
    down, across = (axis - sum(d < axis for d in dropped) for axis in first.axes)
    return first.on((down, across))


def _unsqueezed(step: Step) -> Spread:
    first = step.spreads[0]
    if first.axes is None:
        return first
    where = step.argument(1, "dim") % len(step.after)
    down, across = (axis + (where <= axis) for axis in first.axes)
    return first.on((down, across))


def _chunked(step: Step) -> Spread:
    """Parts of a tensor: of its channels, each part lies as the whole did."""
    first = step.spreads[0]
    name = step.called if isinstance(step.called, str) else step.called.__name__
    place = 2 if name in ("chunk", "split") else 1
    dim = step.argument(place, "dim", 0) % len(step.before)
    return _unknown(step) if first.axes is not None and dim in first.axes else first


FOR_MAPS: Final = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)

Rule: TypeAlias = "Callable[[Step], Spread]"


def _for(rule: Rule, *kinds: Any) -> dict[Any, Rule]:
    return dict.fromkeys(kinds, rule)


_RULES: Final[dict[Any, Rule]] = {
    **_for(_slid, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, F.max_pool2d, F.avg_pool2d),
    **_for(_convolved, F.conv2d),
    **_for(_pooled, nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    **_for(_pooled, nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d),
    **_for(_mean, "mean", torch.mean),
    **_for(_linear, nn.Linear, F.linear),
    **_for(_layer_norm, nn.LayerNorm, F.layer_norm),
    **_for(_permuted, "permute", torch.permute),
    **_for(_transposed, "transpose", torch.transpose, "swapaxes", torch.swapaxes),
    **_for(_reshaped, "view", "reshape", "flatten", torch.reshape, torch.flatten, nn.Flatten),
    **_for(_picked, operator.getitem),
    **_for(_unsqueezed, "unsqueeze", torch.unsqueeze),
    **_for(_chunked, "chunk", "split", torch.chunk, torch.split),
}

# Each value comes of the value at its own place, whatever else is done to it.
_POINTWISE: Final = frozenset(
    {
        nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity, nn.LocalResponseNorm,
        nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
        nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, StochasticDepth,
        F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, F.hardsigmoid, F.dropout,
        F.local_response_norm, F.hardtanh, F.elu, torch.relu, torch.sigmoid, torch.tanh,
        torch.square, torch.sqrt, torch.rsqrt, "square", "sqrt", "rsqrt",
        "relu", "sigmoid", "tanh", "contiguous", "clone", "float", "add", "mul", "sub", "div",
        "clamp", operator.add, operator.sub, operator.mul, operator.truediv, operator.neg,
        torch.add, torch.mul, torch.sub, torch.div, torch.clamp,
        stochastic_depth,
    }
)  # fmt: skip

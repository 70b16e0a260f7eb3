"""Networks without their numbers: made in milliseconds, for their shapes or to be filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from offshelf.backbones.interface import Build

# What layers make their parameters with. Anything else is arithmetic on real numbers: RegNet
# computes its widths with tensors, which `torch.device("meta")` would take away.
_ALLOCATE: Final = frozenset({torch.empty, torch.zeros, torch.ones, torch.full})


class _WithoutMemory(TorchFunctionMode):
    """Puts freshly allocated tensors on the meta device, where initialising them costs nothing."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ALLOCATE:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def skeleton(build: Build, classes: int | None = None) -> nn.Module:
    """The network with its parameters on the meta device; buffers that it computes are real.

    It has `classes` outputs, or as many as `build` gives it by itself. A network whose
    construction needs real parameters is made with them.
    """
    asked = {} if classes is None else {"classes": classes}
    try:
        with _WithoutMemory():
            return build(**asked)
    except (RuntimeError, NotImplementedError):  # it reads values that are not there
        return build(**asked)


def nbytes_of(network: nn.Module) -> int:
    """What a network's parameters and buffers take, in bytes."""
    return sum(t.nbytes for t in (*network.parameters(), *network.buffers()))

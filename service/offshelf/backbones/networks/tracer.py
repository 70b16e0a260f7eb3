"""Traces a network while other threads run theirs, which torch.fx by itself breaks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from torchvision.models.feature_extraction import NodePathTracer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx, nn

# While it traces, torch.fx has its own `nn.Module.__call__` in place of torch's, for all threads:
# two that overlap would leave one of theirs in place for good.
_TRACING: Final = threading.Lock()


class Tracer(NodePathTracer):  # type: ignore[misc]  # torchvision has no types
    """torchvision's tracer, blind to the modules that other threads call meanwhile."""

    def trace(self, *args: Any, **kwargs: Any) -> fx.Graph:
        """As torch.fx does, one network at a time."""
        with _TRACING:
            self._thread = threading.get_ident()
            graph: fx.Graph = super().trace(*args, **kwargs)
            return graph

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A node of the graph, or what another thread's call computes."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """The attribute, which in this network's own code is one of the graph's."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

"""What host memory keeps of backbones that have to leave a GPU, so that they return quickly."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from offshelf.engine.interface import WeightsInfo

Key: TypeAlias = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Kept:
    """Weights as they were read: tensors on the host, by name."""

    info: WeightsInfo
    state: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.state.values())


class HostTier:
    """Weights that were used last, up to `budget` bytes; none at all with a budget of 0."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def get(self, key: Key) -> Kept | None:
        """The weights, if they are here."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Key, kept: Kept) -> None:
        """Keep these, and let go of those unused longest; what is larger than all is not kept."""
        if kept.nbytes > self._budget:
            return
        with self._lock:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while sum(one.nbytes for one in self._kept.values()) > self._budget:
                self._kept.popitem(last=False)

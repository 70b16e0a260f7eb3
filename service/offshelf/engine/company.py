"""Images that are to run in one batch, in a fixed order: gathered until the last is prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from offshelf.engine.batcher import Item

# Say what came of an image: its item, or None; what can be queued now.
Arrive: TypeAlias = Callable[[Item | None], Sequence[Item]]


class Company:
    """`size` images; those that cannot be prepared are left out, and the others run without them.

    Which those are depends on the images alone, so the batch is the same in every run.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._expected = 0
        self._arrived: dict[int, Item | None] = {}

    def expect(self) -> Arrive:
        """The next place in the batch; what it gives is to be called once."""
        with self._lock:
            place, self._expected = self._expected, self._expected + 1
        return partial(self._arrive, place)

    def _arrive(self, place: int, item: Item | None) -> Sequence[Item]:
        """Everybody, in order, once all have arrived; nobody until then."""
        if item is not None:
            item.company = self
        with self._lock:
            self._arrived[place] = item
            if len(self._arrived) < self._size:
                return []
            arrived = [self._arrived[one] for one in sorted(self._arrived)]
        return [one for one in arrived if one is not None]

"""The backbones that are on the device, each loaded once however many ask for it at a time."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeAlias

from offshelf.engine.canary import canary

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.engine.interface import Engine, Resident

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str | None]

# Every seed makes other weights, so what a client may ask for has no end.
MAX_RESIDENT: Final = 4
MAX_SEED_DIGITS: Final = 20  # of a number of 64 bits


class Residency:
    """Loads backbones on demand and keeps `max_resident` of them, those that were used last.

    A load that fails is tried anew when asked for. Whoever has a resident that was let go of can
    use it to the end: it stays in memory for as long.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[Resident], None] = canary,
        max_resident: int = MAX_RESIDENT,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._check = check
        self._max_resident = max_resident
        self._lock = threading.Lock()
        # In the order of their last use.
        self._loads: dict[Key, Future[Resident]] = {}

    def get(self, backbone: str, weights: str | None) -> Resident:
        """The backbone, loaded and warm; blocks while it is being loaded.

        Raises what `Engine.load` raises, for all that waited for that load.
        """
        key, mine = _key(backbone, weights), False
        outdated = self._outdated(key)
        with self._lock:
            load = self._loads.pop(key, None)
            if load is None or load is outdated:
                load, mine = Future(), True
            self._loads[key] = load
        if mine:
            # A thread that ends with the load. OpenMP keeps threads for every thread that ever
            # computed, and once there are more of them than cores a forward pass of one image
            # takes half as long again.
            threading.Thread(target=self._load, args=(key, load), name=f"load-{backbone}").start()
        # No time-out: the one that loads ends this future whatever happens to the load.
        return load.result()

    def has(self, backbone: str, weights: str | None) -> bool:
        """Whether `get` would not have to wait."""
        key = _key(backbone, weights)
        with self._lock:
            load = self._loads.get(key)
        return load is not None and load.done() and self._outdated(key) is None

    def _outdated(self, key: Key) -> Future[Resident] | None:
        """The load of that key, where it was of a card that is another one now."""
        with self._lock:
            load = self._loads.get(key)
        if load is None or not load.done() or load.exception() is not None:
            return None
        return None if self._engine.is_current(load.result()) else load

    def loaded(self) -> dict[Key, Resident]:
        """What is on the device now, by (backbone, weights as asked for)."""
        with self._lock:
            loads = dict(self._loads)
        return {
            key: load.result()
            for key, load in sorted(loads.items(), key=str)
            if load.done() and load.exception() is None
        }

    def _load(self, key: Key, load: Future[Resident]) -> None:
        began_s = self._clock()
        try:
            resident = self._engine.load(*key)
            self._check(resident)
        except BaseException as error:  # noqa: BLE001 - all who wait for the load are told
            with self._lock:
                del self._loads[key]
            load.set_exception(error)
            return
        log.info("%s: loaded and warm in %.1f s", key[0], self._clock() - began_s)
        load.set_result(resident)
        self._let_go(key)

    def _let_go(self, latest: Key) -> None:
        """Drop what was unused longest, down to the limit; what is being loaded stays."""
        with self._lock:
            self._loads[latest] = self._loads.pop(latest)
            done = [key for key, load in self._loads.items() if load.done()]
            for key in done[: max(0, len(done) - self._max_resident)]:
                del self._loads[key]
                log.info("%s (weights %s) is let go of", *key)


def _key(backbone: str, weights: str | None) -> Key:
    """One key for all the ways to write a seed (`random:1`, `random:01`)."""
    kind, colon, seed = (weights or "").partition(":")
    if colon and seed.isdecimal() and len(seed) <= MAX_SEED_DIGITS:
        weights = f"{kind}:{int(seed)}"
    return backbone, weights

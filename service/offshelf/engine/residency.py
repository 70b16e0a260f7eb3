"""The backbones that are on the device, each loaded once however many ask for it at a time."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

from offshelf.engine.canary import canary

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.engine.interface import Engine, Resident

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str | None]


class Residency:
    """Loads backbones on demand and keeps them. A load that fails is tried anew when asked for."""

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[Resident], None] = canary,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._check = check
        self._lock = threading.Lock()
        self._loads: dict[Key, Future[Resident]] = {}

    def get(self, backbone: str, weights: str | None) -> Resident:
        """The backbone, loaded and warm; blocks while it is being loaded.

        Raises what `Engine.load` raises, for all that waited for that load.
        """
        key = (backbone, weights)
        with self._lock:
            load = self._loads.get(key)
            mine = load is None
            if load is None:
                load = self._loads[key] = Future()
        if mine:
            # A thread that ends with the load. OpenMP keeps threads for every thread that ever
            # computed, and once there are more of them than cores a forward pass of one image
            # takes half as long again.
            threading.Thread(target=self._load, args=(key, load), name=f"load-{backbone}").start()
        # No time-out: the one that loads ends this future whatever happens to the load.
        return load.result()

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

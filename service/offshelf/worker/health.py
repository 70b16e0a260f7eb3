"""Whether this worker is fit to work, told from any thread and read by the heartbeat."""

from __future__ import annotations

import logging
import threading
from typing import Final

log = logging.getLogger(__name__)

STARTING: Final = "starting"


class Health:
    """Ready or not, why, and whether it is time to leave.

    Built before everything that may break, and handed to all of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._woken = threading.Event()
        self._ready = False
        self._detail = STARTING
        self._fault = ""

    @property
    def ready(self) -> bool:
        """Whether work should be sent here."""
        return self._ready

    @property
    def detail(self) -> str:
        """Why it is not ready, or what else is to be known."""
        return self._fault or self._detail

    @property
    def is_broken(self) -> bool:
        """Whether something that everything depends on has died."""
        return bool(self._fault)

    @property
    def ended(self) -> bool:
        """Whether the worker was asked to leave, or has to."""
        return self._ended.is_set()

    def say(self, ready: bool, detail: str = "") -> None:
        """Set the state; a broken worker does not become ready again."""
        with self._lock:
            self._ready = ready and not self._fault
            self._detail = detail

    def stop(self) -> None:
        """Ask for the end; returns at once, safe in a signal handler."""
        self._ended.set()
        self._woken.set()

    def suspect(self, error: BaseException) -> None:
        """An item failed by our own fault: the device is to be looked at soon."""
        log.debug("suspecting the device: %r", error)
        self._woken.set()

    def broken(self, error: BaseException) -> None:
        """The device, or a thread that everything depends on, has died: leave, and say so."""
        log.critical("this worker ends: %s", error, exc_info=error)
        with self._lock:
            self._ready = False
            self._fault = self._fault or f"{type(error).__name__}: {error}"
        self.stop()

    def wait(self, timeout_s: float) -> bool:
        """Until the end is asked for, a suspicion, or the time is up; whether there was one."""
        woken = self._woken.wait(timeout_s)
        if not self.ended:
            self._woken.clear()
        return woken

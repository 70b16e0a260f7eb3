"""The backbones that are on the device: loaded once however many ask, and within a memory budget.

Who uses a backbone holds it. Where a load needs room, backbones that nobody holds go, those unused
longest first. If that is not enough, one that is held is closed to newcomers, and goes when its
last holder has let go: so the memory is really there when the load begins, and of two backbones
that both sides keep asking for each has its turn. A turn lasts at least as long as the load took,
so that not all time goes into loading.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from offshelf.engine.canary import canary
from offshelf.engine.observer import Observer, Unobserved
from offshelf.errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.engine.interface import Engine, Resident

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str | None]

# However small they are: every network also has its graph, and programs cut from it.
MAX_RESIDENT: Final = 16


@dataclass(eq=False, slots=True)
class _Entry:
    """A backbone that is on the device, or on its way there."""

    key: Key
    load: Future[Resident] = field(default_factory=Future)
    users: int = 0
    nbytes: int = 0
    stays_until_s: float = math.inf  # the end of its turn; not before it is ready
    used: int = 0

    @property
    def ready(self) -> bool:
        return self.load.done() and self.load.exception() is None


class Hold:
    """A backbone that stays where it is until this is released; one holder's own."""

    def __init__(self, residency: Residency, entry: _Entry) -> None:
        self._residency = residency
        self._entry: _Entry | None = entry
        self.resident: Final = entry.load.result()

    def share(self) -> Hold:
        """Another hold on the same; ours must not have been released."""
        if self._entry is None:
            raise RuntimeError("a hold that was released cannot be shared")
        return self._residency.another(self._entry)

    def release(self) -> None:
        """Let go; a second time does nothing."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._residency.let_go(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Residency:
    """Loads backbones on demand and keeps them within `budget` bytes of weights on the device.

    A load that fails is told to all who wait for it, and tried anew when asked for.
    """

    def __init__(
        self,
        engine: Engine,
        budget: int,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[Resident], None] = canary,
        max_resident: int = MAX_RESIDENT,
    ) -> None:
        self._engine = engine
        self._budget = budget
        self._observer = observer or Unobserved()
        self._clock = clock
        self._check = check
        self._max_resident = max_resident
        self._changed = threading.Condition()
        self._entries: dict[Key, _Entry] = {}
        self._leaving: list[_Entry] = []
        self._loading: deque[_Entry] = deque()  # those that wait for room, in order
        self._uses = 0

    def hold(self, backbone: str, weights: str | None) -> Hold:
        """The backbone, loaded and warm; blocks while it is loaded, and while room is made.

        Raises what `Engine.load` raises, and TooLarge for one that is larger than the budget.
        """
        key = (backbone, self._engine.canonical(backbone, weights))
        self._close_outdated(key)
        with self._changed:
            entry = self._entries.get(key) or self._begin(key)
            self._use(entry)
        return self._held(entry)

    def hold_loaded(self, backbone: str, weights: str | None) -> Hold | None:
        """The backbone if it is there now; never waits."""
        key = (backbone, self._engine.canonical(backbone, weights))
        self._close_outdated(key)
        with self._changed:
            entry = self._entries.get(key)
            if entry is None or not entry.ready:
                return None
            self._use(entry)
        return self._held(entry)

    def hold_all(self) -> list[Hold]:
        """A hold on every backbone that is there; it counts as no use of them."""
        with self._changed:
            ready = [entry for entry in self._entries.values() if entry.ready]
            for entry in ready:
                entry.users += 1
        return [Hold(self, entry) for entry in ready]

    def loaded(self) -> dict[Key, Resident]:
        """What is on the device now, by (backbone, weights as asked for)."""
        with self._changed:
            ready = {e.key: e.load.result() for e in self._entries.values() if e.ready}
        return dict(sorted(ready.items(), key=str))

    def coming(self) -> list[Key]:
        """What is being loaded, or waits for room."""
        with self._changed:
            return [key for key, entry in self._entries.items() if not entry.load.done()]

    def another(self, entry: _Entry) -> Hold:
        """One more hold on what somebody holds already."""
        with self._changed:
            self._use(entry)
        return Hold(self, entry)

    def let_go(self, entry: _Entry) -> None:
        """One holder less; the last one of what is to leave frees its memory."""
        with self._changed:
            entry.users -= 1
            if entry.users == 0 and entry in self._leaving:
                self._free(entry)
            self._changed.notify_all()

    def _close_outdated(self, key: Key) -> None:
        """Close to newcomers what was made of a card that is another one now."""
        with self._changed:
            entry = self._entries.get(key)
        if entry is None or not entry.ready:
            return
        # Without the lock: it looks at files, and whoever lets go must not wait for that.
        if not self._engine.is_current(entry.load.result()):
            with self._changed:
                if self._entries.get(key) is entry:
                    self._close(entry)

    def _use(self, entry: _Entry) -> None:
        entry.users += 1
        self._uses += 1
        entry.used = self._uses

    def _held(self, entry: _Entry) -> Hold:
        try:
            # No time-out: the one that loads ends this future whatever happens to the load.
            entry.load.result()
        except BaseException:
            self.let_go(entry)
            raise
        return Hold(self, entry)

    def _begin(self, key: Key) -> _Entry:
        """A new entry, and a thread that fills it and ends with the load.

        OpenMP keeps threads for every thread that ever computed, and once there are more of them
        than cores a forward pass of one image takes half as long again.
        """
        entry = self._entries[key] = _Entry(key)
        threading.Thread(
            target=self._load, args=(entry,), name=f"load-{key[0]}", daemon=True
        ).start()
        return entry

    def _load(self, entry: _Entry) -> None:
        try:
            # First what may fail or take long: nobody has to leave for it.
            self._engine.fetch(*entry.key)
            self._make_room(entry, self._engine.footprint(*entry.key))
            self._engine.reclaim()
            began_s = self._clock()
            resident = self._engine.load(*entry.key)
            self._check(resident)
        except BaseException as error:  # noqa: BLE001 - all who wait for the load are told
            with self._changed:
                del self._entries[entry.key]
                self._changed.notify_all()
            entry.load.set_exception(error)
            return
        took_s = self._clock() - began_s
        log.info("%s (weights %s): loaded and warm in %.1f s", *entry.key, took_s)
        self._observer.loaded(entry.key[0], took_s)
        with self._changed:
            entry.nbytes = resident.nbytes
            entry.stays_until_s = self._clock() + took_s
            entry.load.set_result(resident)
            self._changed.notify_all()

    def _make_room(self, entry: _Entry, nbytes: int) -> None:
        """Wait until so many bytes are free, and take them; whoever began first is first."""
        if nbytes > self._budget:
            raise TooLarge(
                f"{entry.key[0]} takes {nbytes / 1e6:.0f} MB of memory and the budget of this "
                f"worker is {self._budget / 1e6:.0f} MB (OFFSHELF_MAX_DEVICE_BYTES)"
            )
        with self._changed:
            self._loading.append(entry)
            try:
                self._changed.wait_for(lambda: self._loading[0] is entry)
                while not self._fits(nbytes):
                    due_s = self._send_away(nbytes)
                    if not self._fits(nbytes):
                        wait_s = due_s - self._clock()
                        self._changed.wait(None if math.isinf(wait_s) else max(0.0, wait_s))
                entry.nbytes = nbytes
            finally:
                self._loading.remove(entry)
                self._changed.notify_all()

    def _fits(self, nbytes: int, without: int = 0, fewer: int = 0) -> bool:
        """Whether so much fits beside what is there, or would, `without` so many bytes of it."""
        there = [e for e in (*self._entries.values(), *self._leaving) if e.nbytes]
        free = self._budget - sum(entry.nbytes for entry in there) + without
        return nbytes <= free and len(there) - fewer < self._max_resident

    def _send_away(self, nbytes: int) -> float:
        """Free what nobody holds, then close what is held, until there is or will be room.

        Returns the time at which more can be done; infinity: when somebody lets go.
        """
        ready = sorted((e for e in self._entries.values() if e.ready), key=lambda e: e.used)
        for entry in ready:
            if entry.users == 0 and not self._will_fit(nbytes):
                self._close(entry)
        due_s = math.inf
        for entry in ready:
            if entry.users and not self._will_fit(nbytes):
                if entry.stays_until_s <= self._clock():
                    self._close(entry)
                else:
                    due_s = min(due_s, entry.stays_until_s)
        return due_s

    def _will_fit(self, nbytes: int) -> bool:
        return self._fits(nbytes, sum(e.nbytes for e in self._leaving), len(self._leaving))

    def _close(self, entry: _Entry) -> None:
        """Let no newcomer have it: who asks now waits for another load of it."""
        del self._entries[entry.key]
        self._leaving.append(entry)
        if entry.users == 0:
            self._free(entry)

    def _free(self, entry: _Entry) -> None:
        self._leaving.remove(entry)
        entry.load.result().close()
        self._observer.let_go(entry.key[0])
        log.info("%s (weights %s) is let go of", *entry.key)

"""The one thread that runs the device: it takes batches from a queue that everybody shares.

Every item that is accepted ends: in features, in an error, or dropped because nobody waits for
it any more (cancelled). If the device or this thread breaks, all that waits fails at once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from offshelf.core.batching import Decision, Lane, Policy, Run, Waiting, decide
from offshelf.core.cost import Cost
from offshelf.engine.interface import Features, Inputs, Output, Regions, Resident
from offshelf.engine.observer import Observer, Unobserved
from offshelf.errors import DeadlineExceeded, DeviceLost, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

log = logging.getLogger(__name__)

Rows: TypeAlias = dict[Output, Features]

# Costs are kept for so many keys; older ones are measured anew.
_MAX_COSTS: Final = 256


def _unchanged(rows: Rows) -> Any:
    return rows


@dataclass(slots=True, eq=False)
class Item:
    """One image on its way: its inputs for one backbone, and the outputs that are wanted.

    `deliver` turns the features, one an output, into the future's result. `deadline_s` is Unix
    time. `company` is shared by those that run in one batch with nobody else. With `regions` the
    features are those of boxes, pooled from the image's maps. With `parts` they are those of parts
    of the image, each an image for itself with inputs of its own, stacked.
    """

    inputs: Inputs
    resident: Resident
    outputs: tuple[Output, ...]
    lane: Lane
    deadline_s: float | None = None
    deliver: Callable[[Rows], Any] = _unchanged
    future: Future[Any] = field(default_factory=Future)
    arrived_s: float = 0.0
    running: bool = False
    company: Hashable = None
    regions: Regions | None = None
    parts: tuple[Inputs, ...] = ()

    def waiting(self) -> Waiting:
        """The item as the policy sees it: same backbone and same outputs can share a batch."""
        key: Hashable = (id(self.resident), self.outputs, self.regions is None)
        return Waiting(self.lane, key, self.arrived_s, self.size, self.company)

    @property
    def size(self) -> int:
        """What it costs, in inputs of the network's own size; larger ones count by their area."""
        images = self.parts or (self.inputs,)
        pixels = sum(stack.size // 3 for inputs in images for stack in inputs)
        return max(1, math.ceil(pixels / self.resident.card.preprocessing.crop**2))

    def start(self) -> bool:
        """Take it up, so that it can no longer be cancelled; False where it already was."""
        self.running = self.running or self.future.set_running_or_notify_cancel()
        return self.running

    def finish(self, rows: Rows) -> None:
        """Hand the rows to whoever waits."""
        try:
            result = self.deliver(rows)
        except Exception as error:
            log.exception("an item's rows could not be delivered")
            self.fail(_failure(error))
            return
        try:
            self.future.set_result(result)
        except InvalidStateError:
            log.debug("an item was ended before its rows came")

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that it ends here."""
        try:
            if self.start():
                self.future.set_exception(error)
        except InvalidStateError:
            log.debug("an item was ended before its error came")


class Batcher:
    """Runs items on the device in the order that `core.batching.decide` gives.

    Callbacks of the futures run on the device's thread: they hand over and return.
    `on_broken` is called once, from that thread, when nothing will run any more.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        observer: Observer | None = None,
        on_broken: Callable[[BaseException], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._policy = policy
        self._observer = observer or Unobserved()
        self._on_broken = on_broken
        self._clock = clock
        self._now = now
        self._changed = threading.Condition()
        self._queue: list[Item] = []
        self._running: list[Item] = []
        self._coming: Counter[Lane] = Counter()
        self._turn = Lane.INTERACTIVE
        self._bulk_turn_s = -math.inf
        self._costs: dict[Hashable, Cost] = {}
        self._refusal: str | None = None
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def expect(self, lane: Lane) -> None:
        """Say that an item is being prepared: it is worth waiting a moment for it."""
        with self._changed:
            self._coming[lane] += 1

    def unexpect(self, lane: Lane) -> None:
        """Say that an expected item is here, or will not come."""
        with self._changed:
            self._coming[lane] -= 1
            self._changed.notify_all()

    def await_expected(self, timeout_s: float) -> bool:
        """Wait until nothing more is expected; whether that came about in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._coming.values()), timeout_s)

    def submit(self, item: Item) -> Future[Any]:
        """Queue an item; once the batcher is closed or broken its future fails at once."""
        self.submit_all([item])
        return item.future

    def submit_all(self, items: Sequence[Item]) -> None:
        """Queue items at once, in their order: the device sees all of them or none."""
        now_s = self._clock()
        for item in items:
            item.arrived_s = now_s
        with self._changed:
            refusal = self._refusal
            if refusal is None:
                self._queue += items
                self._changed.notify_all()
        if refusal is not None:
            for item in items:
                item.fail(WorkerError(refusal))

    def close(self, timeout_s: float) -> None:
        """Run what is queued, then stop; what is not done after `timeout_s` fails."""
        self._refuse("the worker is stopping")
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("the device did not finish within %.0f s", timeout_s)
        self._fail_all(WorkerError("the worker stopped before this item ran"))

    def _refuse(self, why: str) -> None:
        with self._changed:
            self._refusal = self._refusal or why
            self._changed.notify_all()

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            doomed = self._running + self._queue
            self._running, self._queue = [], []
        for item in doomed:
            item.fail(error)

    def _run(self) -> None:
        """The thread: batches until closed. Whatever ends it, nobody is left waiting."""
        try:
            while (batch := self._next()) is not None:
                self._attempt(batch)
                with self._changed:
                    self._running = []
                    if self._turn is Lane.BULK:
                        self._bulk_turn_s = self._clock()
        except BaseException as error:  # it is told to everybody who waits
            log.exception("the device's thread broke")
            self._refuse("the device of this worker is broken")
            self._fail_all(error if isinstance(error, DeviceLost) else _lost(error))
            if self._on_broken is not None:
                self._on_broken(error)

    def _next(self) -> list[Item] | None:
        """Wait for the next batch, and take it up; None when closed and empty."""
        with self._changed:
            while True:
                self._drop_unwanted()
                if not self._queue and self._refusal is not None:
                    return None
                decision = self._decide()
                if isinstance(decision, Run):
                    self._turn = decision.lane
                    batch = self._take(decision.indices)
                    if batch:
                        return batch
                elif decision.at_s is None:
                    self._changed.wait()
                else:
                    self._changed.wait(max(0.0, decision.at_s - self._clock()))

    def _decide(self) -> Decision:
        waiting = [item.waiting() for item in self._queue]
        coming = {} if self._refusal is not None else self._coming
        now_s = self._clock()
        return decide(waiting, now_s, self._policy, self._costs, coming, self._bulk_turn_s)

    def _drop_unwanted(self) -> None:
        """Leave out what was cancelled or whose deadline has passed: nobody waits for it."""
        now_s, kept = self._now(), []
        for item in self._queue:
            if item.future.cancelled():
                item.start()
            elif item.deadline_s is not None and item.deadline_s <= now_s:
                item.fail(DeadlineExceeded("the deadline passed before the device was free"))
            else:
                kept.append(item)
        self._queue = kept

    def _take(self, indices: Sequence[int]) -> list[Item]:
        chosen = set(indices)
        taken = [item for i, item in enumerate(self._queue) if i in chosen]
        self._queue = [item for i, item in enumerate(self._queue) if i not in chosen]
        self._running = [item for item in taken if item.start()]
        moment_s = self._clock()
        for item in self._running:
            self._observer.waited(item.lane, moment_s - item.arrived_s)
        return list(self._running)

    def _attempt(self, batch: list[Item]) -> None:
        """Run a batch; where it fails, its halves, so that only the culprit fails."""
        try:
            rows = self._forward(batch)
        except DeviceLost:
            raise
        except Exception as error:
            if len(batch) > 1:
                log.warning("a batch of %d failed and is halved: %s", len(batch), error)
                middle = len(batch) // 2
                self._attempt(batch[:middle])
                self._attempt(batch[middle:])
            else:
                log.exception("an item failed on the device")
                batch[0].fail(_failure(error))
        else:
            self._hand_out(batch, rows)

    def _forward(self, batch: list[Item]) -> dict[Output, Sequence[Features]]:
        """The outputs of a batch, an entry an item; WorkerError where they do not match."""
        resident, outputs = batch[0].resident, batch[0].outputs
        size = sum(item.size for item in batch)
        began_s = self._clock()
        rows = _run(batch)
        seconds = self._clock() - began_s
        for output in outputs:
            if output not in rows or len(rows[output]) != len(batch):
                count = len(rows[output]) if output in rows else "no"
                raise WorkerError(f"{output.tap}: {count} rows for {len(batch)} images")
        self._learn(batch[0].waiting().key, size, seconds)
        self._observer.ran(resident.card.name, size, seconds)
        return rows

    def _learn(self, key: Hashable, size: int, seconds: float) -> None:
        known = self._costs.pop(key, None)
        if known is None:
            known = Cost(size, seconds)
        else:
            known.learn(size, seconds)
        self._costs[key] = known
        if len(self._costs) > _MAX_COSTS:
            del self._costs[next(iter(self._costs))]

    def _hand_out(self, batch: list[Item], rows: dict[Output, Sequence[Features]]) -> None:
        for number, item in enumerate(batch):
            part = {output: values[number] for output, values in rows.items()}
            bad = [o.tap for o, values in part.items() if not np.isfinite(values).all()]
            if bad:
                item.fail(WorkerError(f"features that are not finite at {', '.join(bad)}"))
            else:
                item.finish(part)


def _run(batch: Sequence[Item]) -> dict[Output, Sequence[Features]]:
    """The features of a batch: of regions, or of images and of parts of images together."""
    resident, outputs = batch[0].resident, batch[0].outputs
    regions = [item.regions for item in batch if item.regions is not None]
    if regions:
        return resident.forward_regions([item.inputs for item in batch], regions, outputs)
    images = [item.parts or (item.inputs,) for item in batch]
    rows = resident.forward([inputs for parts in images for inputs in parts], outputs)
    if not any(item.parts for item in batch):
        return rows
    return {output: _together(batch, values) for output, values in rows.items()}


def _together(batch: Sequence[Item], values: Sequence[Features]) -> Sequence[Features]:
    """An entry an item: that of an image as it is, those of parts stacked."""
    left = iter(values)
    return [
        np.stack([next(left) for _ in item.parts]) if item.parts else next(left) for item in batch
    ]


def _failure(error: Exception) -> WorkerError:
    """Any error of an engine as ours."""
    if isinstance(error, WorkerError):
        return error
    failure = WorkerError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _lost(error: BaseException) -> WorkerError:
    lost = WorkerError(f"the device's thread broke: {type(error).__name__}: {error}")
    lost.__cause__ = error
    return lost

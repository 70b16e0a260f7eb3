"""Interactive requests: taken while there is room, resolved, extracted, answered in groups."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from offshelf.core.batching import Lane
from offshelf.errors import DependencyError, ErrorInfo, InvalidParameter, OffshelfError, WorkerError
from offshelf.queue.messages import ImageReply, TapRow
from offshelf.schemas import FeatureParams
from offshelf.worker.planning import weights_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features
    from offshelf.queue.interface import Inbox
    from offshelf.queue.messages import ImageRequest
    from offshelf.worker.health import Health
    from offshelf.worker.interface import Extractor
    from offshelf.worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

# How long one look at an empty queue blocks: bounds how late a wish to stop is seen.
TAKE_S: Final = 0.5
RECONNECT_S: Final = 0.5
# Backbones that may load at the same time; requests for the same one share a thread.
RESOLVERS: Final = 8
REPLY_GROUP: Final = 64
# For so long a reply is offered to a Redis that is away; then its client has been told already.
REPLY_PATIENCE_S: Final = 10.0


class Intake:
    """Takes only what it has room for: what more there is waits for any free worker.

    `max_inflight` counts images taken and not yet answered. `health` hears of errors of ours.
    """

    def __init__(
        self,
        inbox: Inbox,
        extractor: Extractor,
        metrics: WorkerMetrics,
        max_inflight: int,
        health: Health,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inbox = inbox
        self._extractor = extractor
        self._metrics = metrics
        self._max_inflight = max_inflight
        self._health = health
        self._clock = clock
        self._room = threading.Condition()
        self._inflight = 0
        self._answered = 0
        self._waiting: dict[str, list[ImageRequest]] = {}
        self._resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")
        self._replies = ReplySender(inbox, health)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._take_forever, name="intake", daemon=True)

    @property
    def inflight(self) -> int:
        """Images taken and not yet answered."""
        return self._inflight

    @property
    def answered(self) -> int:
        """Images answered since the start."""
        return self._answered

    def start(self) -> None:
        """Begin to take requests."""
        self._replies.start()
        self._thread.start()

    def drain(self, timeout_s: float) -> bool:
        """Take no more and answer what was taken; whether that was done in time."""
        deadline_s = time.monotonic() + timeout_s
        self._stopping.set()
        with self._room:
            self._room.notify_all()
        self._thread.join(timeout_s)
        with self._room:
            done = self._room.wait_for(
                lambda: self._inflight == 0, max(0.0, deadline_s - time.monotonic())
            )
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        return self._replies.stop(max(1.0, deadline_s - time.monotonic())) and done

    def _take_forever(self) -> None:
        try:
            self._take_until_stopped()
        except Exception as error:  # noqa: BLE001 - told: a worker that takes nothing must not live
            self._health.broken(error)

    def _take_until_stopped(self) -> None:
        while not self._stopping.is_set():
            room = self._await_room()
            if not room:
                continue
            try:
                requests = self._inbox.take(room, TAKE_S)
            except DependencyError as error:
                log.warning("cannot take requests: %s", error)
                self._stopping.wait(RECONNECT_S)
                continue
            self._accept(requests)

    def _await_room(self) -> int:
        with self._room:
            self._room.wait_for(
                lambda: self._inflight < self._max_inflight or self._stopping.is_set(), TAKE_S
            )
            return 0 if self._stopping.is_set() else self._max_inflight - self._inflight

    def _accept(self, requests: Sequence[ImageRequest]) -> None:
        """Group requests by what they ask for and resolve each group off this thread."""
        now_s = self._clock()
        for request in requests:
            self._metrics.queued(now_s - request.sent_s)
            if request.deadline_s <= now_s:
                self._metrics.answered("expired")
                continue
            key = json.dumps(request.params, sort_keys=True)
            with self._room:
                self._inflight += 1
                joined = self._waiting.get(key)
                if joined is not None:
                    joined.append(request)
                    continue
                self._waiting[key] = [request]
            self._resolvers.submit(self._resolve, key)

    def _resolve(self, key: str) -> None:
        try:
            plan = self._extractor.resolve(FeatureParams.model_validate_json(key))
            template = _Template.of(plan)
        except ValidationError as error:
            self._refuse(key, InvalidParameter(f"feature parameters: {error}"))
        except Exception as error:  # noqa: BLE001 - every request taken is answered
            self._refuse(key, error)
        else:
            for request in self._joined(key):
                self._submit(request, plan, template)

    def _joined(self, key: str) -> Sequence[ImageRequest]:
        """Those who waited for a plan; whoever comes from now on resolves anew."""
        with self._room:
            return self._waiting.pop(key)

    def _refuse(self, key: str, error: Exception) -> None:
        for request in self._joined(key):
            self._answer(request, self._failed(request, error))

    def _submit(self, request: ImageRequest, plan: Plan, template: _Template) -> None:
        try:
            future = self._extractor.submit(
                request.image, plan, Lane.INTERACTIVE, request.deadline_s
            )
        except Exception as error:  # noqa: BLE001 - every request taken is answered
            self._answer(request, self._failed(request, error))
            return
        future.add_done_callback(lambda done: self._finish(request, template, done))

    def _finish(
        self, request: ImageRequest, template: _Template, done: Future[dict[str, Features]]
    ) -> None:
        error = WorkerError("the image was dropped") if done.cancelled() else done.exception()
        if error is None:
            reply = template.fill(request, done.result(), self._clock())
        else:
            reply = self._failed(request, error)
        self._answer(request, reply)

    def _failed(self, request: ImageRequest, error: BaseException) -> ImageReply:
        if not isinstance(error, OffshelfError) or isinstance(error, WorkerError):
            log.error("image %d of request %s", request.index, request.request_id, exc_info=error)
            self._health.suspect(error)
        return ImageReply(request.request_id, request.index, error=ErrorInfo.of(error))

    def _answer(self, request: ImageRequest, reply: ImageReply) -> None:
        self._metrics.answered(reply.error.code if reply.error else "ok")
        self._replies.send(request.reply_to, reply)
        with self._room:
            self._inflight -= 1
            self._answered += 1
            self._room.notify_all()


@dataclass(frozen=True, slots=True)
class _Template:
    """What all replies of a plan share, made once: replies are built on the device's thread."""

    backbone: str
    weights: dict[str, Any]
    specs: dict[str, tuple[dict[str, Any], str]]

    @classmethod
    def of(cls, plan: Plan) -> _Template:
        specs = {tap: (spec.to_dict(), spec.fingerprint) for tap, spec in plan.specs.items()}
        weights = weights_body(plan.resident.weights).model_dump()
        return cls(plan.resident.card.name, weights, specs)

    def fill(
        self, request: ImageRequest, features: dict[str, Features], now_s: float
    ) -> ImageReply:
        return ImageReply(
            request_id=request.request_id,
            index=request.index,
            backbone=self.backbone,
            weights=self.weights,
            rows={tap: TapRow(*spec, features[tap]) for tap, spec in self.specs.items()},
            timing={"total_s": now_s - request.sent_s},
        )


class ReplySender:
    """One thread that sends replies, as many as there are in one round trip.

    The threads of the engine never wait for Redis, and a burst of replies costs one answer.
    """

    def __init__(self, inbox: Inbox, health: Health) -> None:
        self._inbox = inbox
        self._health = health
        self._queue: queue.SimpleQueue[tuple[str, ImageReply] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_forever, name="replies", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def send(self, reply_to: str, reply: ImageReply) -> None:
        """Queue a reply; never blocks."""
        self._queue.put((reply_to, reply))

    def stop(self, timeout_s: float) -> bool:
        """Send what is queued, then end; whether that was done in time."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _send_forever(self) -> None:
        try:
            self._send_until_stopped()
        except Exception as error:  # noqa: BLE001 - told: a worker that answers nothing must not live
            self._health.broken(error)

    def _send_until_stopped(self) -> None:
        ending = False
        while not ending:
            group = [self._queue.get()]
            while len(group) < REPLY_GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            ending = None in group
            self._deliver([reply for reply in group if reply is not None])

    def _deliver(self, replies: Sequence[tuple[str, ImageReply]]) -> None:
        give_up_s = time.monotonic() + REPLY_PATIENCE_S
        while replies:
            try:
                self._inbox.reply(replies)
            except DependencyError as error:
                if time.monotonic() > give_up_s:
                    log.warning("%d replies were dropped: %s", len(replies), error)
                    return
                time.sleep(RECONNECT_S)
            else:
                return

"""Interactive requests: taken while there is room, resolved, extracted, and answered."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.batching import Lane
from offshelf.errors import (
    DependencyError,
    ErrorInfo,
    OffshelfError,
    TooLarge,
    WeightsMissing,
    WorkerError,
)
from offshelf.queue.messages import ImageReply, TapRow
from offshelf.worker.content_cache import ContentCache
from offshelf.worker.planning import weights_body
from offshelf.worker.replies import ReplySender
from offshelf.worker.resolving import Resolving
from offshelf.worker.windowed import Windowed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features
    from offshelf.engine.windowing import Boxed
    from offshelf.queue.interface import Inbox
    from offshelf.queue.messages import ImageRequest
    from offshelf.worker.content_cache import Content
    from offshelf.worker.health import Health
    from offshelf.worker.interface import Duty, Extractor
    from offshelf.worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

# How long one look at an empty queue blocks: bounds how late a wish to stop is seen.
TAKE_S: Final = 0.5
RECONNECT_S: Final = 0.5
MAX_ANSWER_BYTES: Final = 1 << 30


class Intake:
    """Takes only what it has room for: what more there is waits for any free worker.

    `max_inflight` counts images taken and not yet answered, `max_answer_bytes` is for the features
    of all images of a request. `health` hears of errors of ours. `duty` says which routes.
    """

    def __init__(
        self,
        inbox: Inbox,
        extractor: Extractor,
        metrics: WorkerMetrics,
        max_inflight: int,
        health: Health,
        duty: Duty,
        clock: Callable[[], float] = time.time,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        cache: ContentCache | None = None,
    ) -> None:
        self._inbox = inbox
        self._max_answer_bytes = max_answer_bytes
        self._extractor = extractor
        self._windowed = Windowed(extractor, max_answer_bytes)
        self._metrics = metrics
        self._cache = cache or ContentCache(None, metrics)
        self._max_inflight = max_inflight
        # Of one backbone that is not loaded yet: there is room for others beside it.
        self._share = max(1, max_inflight // 4)
        self._health = health
        self._clock = clock
        self._room = threading.Condition()
        self._inflight = 0
        self._answered = 0
        self._proofs = 0
        self._duty = duty
        self._resolving = Resolving(extractor, self._start, self._refuse)
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

    @property
    def proofs(self) -> int:
        """Images that came back from the device, or from being decoded, since the start."""
        return self._proofs

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
        self._resolving.close()
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
                self._resolving.drop_expired(self._clock())
                continue
            try:
                crowded = self._resolving.crowded(self._share)
                takes = self._duty.takes(crowded)
                requests = self._inbox.take(min(room, self._share), TAKE_S, takes)
            except DependencyError as error:
                log.warning("cannot take requests: %s", error)
                self._stopping.wait(RECONNECT_S)
                continue
            if requests:
                self._accept(self._wanted(requests))
            self._resolving.drop_expired(self._clock())

    def _await_room(self) -> int:
        with self._room:
            self._room.wait_for(
                lambda: self._inflight < self._max_inflight or self._stopping.is_set(), TAKE_S
            )
            return 0 if self._stopping.is_set() else self._max_inflight - self._inflight

    def _wanted(self, requests: Sequence[ImageRequest]) -> Sequence[ImageRequest]:
        """Those that somebody still waits for."""
        try:
            gone = self._inbox.gone({request.request_id for request in requests})
        except DependencyError as error:
            log.warning("cannot tell whose client has gone: %s", error)
            gone = {}
        now_s, wanted = self._clock(), []
        for request in requests:
            self._metrics.queued(now_s - request.sent_s)
            if request.deadline_s <= now_s:
                self._metrics.answered("expired")
            # A client may use an id again: what it sent later is another request.
            elif request.sent_s <= gone.get(request.request_id, float("-inf")):
                self._metrics.answered("gone")
            else:
                wanted.append(request)
        return wanted

    def _accept(self, requests: Sequence[ImageRequest]) -> None:
        with self._room:
            self._inflight += len(requests)
        for request in requests:
            self._resolving.add(request)

    def _start(self, requests: Sequence[ImageRequest], plan: Plan) -> None:
        """Answer what is known, and send the others to the device.

        Features of boxes are never known: where each of hundreds is another look-up, and none is
        likely asked for again, a cache costs more than it gives.
        """
        template = _Template.of(plan)
        for request in requests:
            if request.is_boxed:
                self._submit_boxed(request, plan, template)
        requests = [request for request in requests if not request.is_boxed]
        contents = self._contents(requests)
        known = self._cache.find(template.fingerprints, contents)
        for place, request in enumerate(requests):
            features = known[place] if known else None
            if features is not None:
                self._answer(request, template.fill(request, features))
            else:
                self._submit(request, plan, template, contents[place] if contents else None)

    def _refuse(self, requests: Sequence[ImageRequest], error: Exception) -> None:
        if not requests:
            return
        if isinstance(error, WeightsMissing) and self._passed_on(requests):
            return
        for request in requests:
            self._answer(request, self._failed(request, error))

    def _passed_on(self, requests: Sequence[ImageRequest]) -> bool:
        """Leave requests for one backbone to another worker, which has its weights, if there is."""
        params = requests[0].params
        route = self._duty.lacks(params.get("backbone"), params.get("weights"))
        if route is None:
            return False
        try:
            self._inbox.put_back(route, requests)
        except DependencyError as error:
            log.warning("cannot put requests back: %s", error)
            return False
        with self._room:
            self._inflight -= len(requests)
            self._room.notify_all()
        return True

    def _check_answer(self, request: ImageRequest, plan: Plan) -> None:
        """TooLarge where the features of the whole request would be more than is answered."""
        each, limit = plan.bytes_per_image, self._max_answer_bytes
        if request.images * each > limit:
            raise TooLarge(
                f"the features of {request.images} images would be {request.images * each} bytes "
                f"({each} an image) and the limit is {limit}: ask for at most {limit // each} "
                "images at a time, for fewer taps, or for pool=avg"
            )

    def _contents(self, requests: Sequence[ImageRequest]) -> list[Content]:
        """By what the cache knows the images; empty where there is no use in that."""
        if not self._cache.on:
            return []
        return [(hashlib.sha256(request.image).hexdigest(), None) for request in requests]

    def _submit(
        self, request: ImageRequest, plan: Plan, template: _Template, content: Content | None
    ) -> None:
        try:
            self._check_answer(request, plan)
            future = self._extractor.submit(
                request.image, plan, Lane.INTERACTIVE, request.deadline_s
            )
        except Exception as error:  # noqa: BLE001 - every request taken is answered
            self._answer(request, self._failed(request, error))
            return
        future.add_done_callback(lambda done: self._finish(request, template, content, done))

    def _submit_boxed(self, request: ImageRequest, plan: Plan, template: _Template) -> None:
        try:
            future = self._windowed.submit(request, plan)
        except Exception as error:  # noqa: BLE001 - every request taken is answered
            self._answer(request, self._failed(request, error))
            return
        future.add_done_callback(lambda done: self._finish_boxed(request, template, done))

    def _finish_boxed(
        self, request: ImageRequest, template: _Template, done: Future[Boxed]
    ) -> None:
        self._proofs += 1
        error = done.exception()
        if error is None:
            found = done.result()
            reply = template.fill(request, found.features, found.boxes)
        else:
            reply = self._failed(request, error)
        self._answer(request, reply)

    def _finish(
        self,
        request: ImageRequest,
        template: _Template,
        content: Content | None,
        done: Future[dict[str, Features]],
    ) -> None:
        self._proofs += 1
        error = WorkerError("the image was dropped") if done.cancelled() else done.exception()
        if error is None:
            reply = template.fill(request, done.result())
            if content is not None:
                self._cache.keep(template.fingerprints, [(content, done.result())])
        else:
            reply = self._failed(request, error)
        self._answer(request, reply)

    def _failed(self, request: ImageRequest, error: BaseException) -> ImageReply:
        if isinstance(error, DependencyError):
            log.warning("image %d of request %s: %s", request.index, request.request_id, error)
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

    @property
    def fingerprints(self) -> dict[str, str]:
        """By tap."""
        return {tap: fingerprint for tap, (_, fingerprint) in self.specs.items()}

    def fill(
        self,
        request: ImageRequest,
        features: dict[str, Features],
        boxes: NDArray[np.float64] | None = None,
    ) -> ImageReply:
        return ImageReply(
            request_id=request.request_id,
            index=request.index,
            backbone=self.backbone,
            weights=self.weights,
            rows={tap: TapRow(*spec, features[tap]) for tap, spec in self.specs.items()},
            boxes=boxes,
        )

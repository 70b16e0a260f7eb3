"""Images of which features of boxes are asked: few at a time, as one costs what hundreds do."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.core.batching import Lane
from offshelf.core.windows import parse_windows
from offshelf.engine.windowing import Given
from offshelf.errors import TooLarge, WorkerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offshelf.engine.extractor import Plan
    from offshelf.engine.windowing import Boxed, Windows
    from offshelf.queue.messages import ImageRequest
    from offshelf.worker.interface import Extractor

# One is cut while the device is at the other. The cuts of an image take 40 MB at 275 windows of
# 224 pixels, and 620 MB at the most windows that it may have.
AT_ONCE: Final = 2


class Windowed:
    """Runs the boxes of `at_once` images at a time; the others wait as the bytes they came in.

    An image whose request's features would be more than `max_answer_bytes` fails before a window
    of it is cut.
    """

    def __init__(self, extractor: Extractor, max_answer_bytes: int, at_once: int = AT_ONCE) -> None:
        self._extractor = extractor
        self._max_answer_bytes = max_answer_bytes
        self._at_once = at_once
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._running = 0
        self._beginning = False

    def submit(self, request: ImageRequest, plan: Plan) -> Future[Boxed]:
        """Take an image; the future ends as that of `Extractor.submit_windows` does."""
        windows = Answerable(
            windows_of(request), request, plan.bytes_per_image, self._max_answer_bytes
        )
        turn = _Turn(request, replace(plan, hold=plan.hold.share()), windows, Future())
        with self._lock:
            self._waiting.append(turn)
        self._begin()
        return turn.future

    def _begin(self) -> None:
        """Begin all for which there is room, on one thread at a time."""
        with self._lock:
            if self._beginning:
                return
            self._beginning = True
        while (turn := self._next()) is not None:
            try:
                done = self._extractor.submit_windows(
                    turn.request.image,
                    turn.plan,
                    Lane.INTERACTIVE,
                    turn.windows,
                    turn.request.deadline_s,
                )
            except Exception as error:  # noqa: BLE001 - whoever waits is told
                done = Future()
                done.set_exception(error)
            done.add_done_callback(partial(self._ended, turn))

    def _next(self) -> _Turn | None:
        with self._lock:
            if self._waiting and self._running < self._at_once:
                self._running += 1
                return self._waiting.popleft()
            self._beginning = False
            return None

    def _ended(self, turn: _Turn, done: Future[Boxed]) -> None:
        turn.plan.hold.release()
        error = WorkerError("the image was dropped") if done.cancelled() else done.exception()
        with self._lock:
            self._running -= 1
        self._begin()
        with suppress(InvalidStateError):  # nobody waits any more
            if error is None:
                turn.future.set_result(done.result())
            else:
                turn.future.set_exception(error)


@dataclass(frozen=True, slots=True, eq=False)
class Answerable:
    """The boxes of an image of a request; TooLarge where the whole answer would be too large."""

    inner: Windows
    request: ImageRequest
    bytes_each: int
    max_answer_bytes: int

    def windows(self, width: int, height: int) -> NDArray[np.floating] | NDArray[np.int64]:
        """Boxes (R, 4). Of windows all images of the request are taken to have as many."""
        boxes = self.inner.windows(width, height)
        rows = self.request.boxes_in_all or len(boxes) * self.request.images
        if rows * self.bytes_each > self.max_answer_bytes:
            raise TooLarge(
                f"the features of {rows} boxes would be {rows * self.bytes_each} bytes "
                f"({self.bytes_each} a box) and the limit is {self.max_answer_bytes}: ask for "
                "fewer images or boxes at a time, for fewer taps, or for pool=avg"
            )
        return boxes


def windows_of(request: ImageRequest) -> Windows:
    """What a request says of where its boxes are."""
    if request.boxes is None:
        return parse_windows(request.windows or "")
    return Given(np.array(request.boxes, np.float64).reshape(-1, 4))


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    request: ImageRequest
    plan: Plan
    windows: Windows
    future: Future[Boxed]

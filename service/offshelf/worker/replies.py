"""Replies on their way to Redis: in groups, and on a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Final

from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.queue.interface import Inbox
    from offshelf.queue.messages import ImageReply
    from offshelf.worker.health import Health

log = logging.getLogger(__name__)

# A group goes once it has so many replies, or so many bytes of features.
GROUP_REPLIES: Final = 64
GROUP_BYTES: Final = 16 << 20
RECONNECT_S: Final = 0.5
# For so long a reply is offered to a Redis that is away; then its client has been told already.
PATIENCE_S: Final = 10.0


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
            size = _size(group[0])
            while len(group) < GROUP_REPLIES and size < GROUP_BYTES:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
                size += _size(group[-1])
            ending = None in group
            self._deliver([reply for reply in group if reply is not None])

    def _deliver(self, replies: Sequence[tuple[str, ImageReply]]) -> None:
        give_up_s = time.monotonic() + PATIENCE_S
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


def _size(queued: tuple[str, ImageReply] | None) -> int:
    """The bytes of the features of a reply."""
    return sum(row.values.nbytes for row in queued[1].rows.values()) if queued else 0

"""Request and reply over Redis lists, for clients that wait on the line.

All requests go to one list, which every worker takes from. Each API process has a reply list of
its own, read by one task, which hands every reply to whoever asked. Nothing here is durable: an
ask ends in its replies or in an error at its deadline, when the connection is lost, or when the
last worker has gone. When one worker of several has gone, or one that was started anew, what is
still unanswered is sent again: the API cannot know what died with it, and a second answer to the
same image is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.exceptions import RedisError

from offshelf.errors import (
    CapacityError,
    DeadlineExceeded,
    DependencyError,
    NoWorker,
    OffshelfError,
)
from offshelf.queue.connection import PREFIX, text, translated
from offshelf.queue.directory import INTERACTIVE_KEY, WORKERS_KEY, rate_key
from offshelf.queue.messages import ImageReply, ImageRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis.asyncio

log = logging.getLogger(__name__)

# A reply list is gone so long after the last reply: its API process has died.
INBOX_TTL_S: Final = 120
# How long one blocking read waits; below the client's time-out.
BLOCK_S: Final = 1.0
READ_COUNT: Final = 64
SEND_COUNT: Final = 64
RECONNECT_S: Final = 0.2
# How stale our view of the workers may be.
WORKERS_S: Final = 1.0
# What Retry-After is made of while no worker has measured itself.
ASSUMED_IMAGES_PER_S: Final = 20.0

Key = tuple[str, int]


def inbox_key(api_id: str) -> str:
    """List: packed `ImageReply`s for one API process."""
    return f"{PREFIX}inbox:{api_id}"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that was sent, and whoever waits for its reply."""

    request: ImageRequest
    future: asyncio.Future[ImageReply]


class AsyncInteractive:
    """`interface.Interactive`: the API's side. `start` it in the event loop that asks.

    `reader` must not retry by itself: a lost connection is how it learns that replies may be lost
    too. `max_queued` counts images that wait for a worker. `clock` gives Unix time.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        reader: redis.asyncio.Redis,
        api_id: str,
        max_queued: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.inbox = inbox_key(api_id)
        self._client = client
        self._reader = reader
        self._max_queued = max_queued
        self._clock = clock
        self._pending: dict[Key, _Pending] = {}
        self._rates: dict[str, float] = {}
        self._worker_gone = False
        self._rates_until_s = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    async def start(self) -> None:
        """Begin to read replies."""
        self._tasks = [
            asyncio.create_task(self._read_forever(), name="replies"),
            asyncio.create_task(self._watch_workers(), name="worker-watch"),
        ]

    async def close(self) -> None:
        """Stop reading; whoever still waits gets a DependencyError."""
        # Cancelling alone does not do: redis-py now and then swallows a cancellation.
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3 * BLOCK_S)
        self._fail_all(DependencyError("the server is shutting down"))
        with contextlib.suppress(RedisError, OSError):
            await self._client.delete(self.inbox)

    async def ask(self, requests: Sequence[ImageRequest]) -> list[ImageReply]:
        """Send images and wait for all their replies, in order.

        Every request must have `reply_to` set to `inbox`. Raises CapacityError, NoWorker,
        DeadlineExceeded, and DependencyError when Redis is away or goes away meanwhile.
        """
        if not requests:
            return []
        await self._admit(len(requests))
        loop = asyncio.get_running_loop()
        waiting = {(r.request_id, r.index): _Pending(r, loop.create_future()) for r in requests}
        self._pending.update(waiting)
        timeout_s = max(r.deadline_s for r in requests) - self._clock()
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._send(requests)
                return list(await asyncio.gather(*(one.future for one in waiting.values())))
        except TimeoutError:
            raise DeadlineExceeded("no answer before the deadline of the request") from None
        finally:
            for key, one in waiting.items():
                self._pending.pop(key, None)
                one.future.cancel()

    async def _admit(self, images: int) -> None:
        """Raise NoWorker or CapacityError where it makes no sense to queue."""
        rates = await self._live_rates()
        if not rates:
            raise NoWorker("no worker is running; nothing can be computed")
        with translated():
            queued = await self._client.llen(INTERACTIVE_KEY)
        if queued and queued + images > self._max_queued:
            rate = sum(rates.values()) or ASSUMED_IMAGES_PER_S
            raise CapacityError(
                f"{queued} images are queued and the limit is {self._max_queued}",
                retry_after_s=max(1.0, min(600.0, queued / rate)),
            )

    async def _send(self, requests: Sequence[ImageRequest]) -> None:
        for first in range(0, len(requests), SEND_COUNT):
            packed = [request.pack() for request in requests[first : first + SEND_COUNT]]
            with translated():
                await self._client.rpush(INTERACTIVE_KEY, *packed)

    async def _live_rates(self) -> dict[str, float]:
        """Images a second of each live worker, at most `WORKERS_S` old; empty: there is none."""
        if not self._rates or self._clock() >= self._rates_until_s:
            with translated():
                ids = sorted(text(member) for member in await self._client.smembers(WORKERS_KEY))
                found = await self._client.mget([rate_key(name) for name in ids]) if ids else []
            alive = zip(ids, found, strict=True)
            rates = {name: float(rate) for name, rate in alive if rate is not None}
            self._worker_gone |= bool(set(self._rates) - set(rates))
            self._rates = rates
            self._rates_until_s = self._clock() + WORKERS_S
        return self._rates

    async def _read_forever(self) -> None:
        while not self._closing:
            try:
                with translated():
                    found: Any = await self._reader.blmpop(
                        BLOCK_S, 1, self.inbox, direction="LEFT", count=READ_COUNT
                    )
            except DependencyError as error:
                # A reply may have been lost with the connection, so nobody is left waiting for it.
                self._fail_all(error)
                await asyncio.sleep(RECONNECT_S)
                continue
            for data in found[1] if found else ():
                self._dispatch(data)

    async def _watch_workers(self) -> None:
        """Do something for those who wait for an answer of a worker that has gone."""
        while not self._closing:
            await asyncio.sleep(WORKERS_S)
            if not self._pending:
                continue
            with contextlib.suppress(DependencyError):  # told by `_read_forever`
                if not await self._live_rates():
                    self._fail_all(NoWorker("the last worker left before it had answered"))
                elif self._worker_gone:
                    await self._send([one.request for one in self._pending.values()])
                self._worker_gone = False

    def _dispatch(self, data: bytes) -> None:
        try:
            reply = ImageReply.unpack(data)
        except (ValueError, TypeError, KeyError):
            log.exception("a reply that cannot be read was dropped")
            return
        one = self._pending.pop((reply.request_id, reply.index), None)
        if one is not None and not one.future.done():
            one.future.set_result(reply)

    def _fail_all(self, error: OffshelfError) -> None:
        pending, self._pending = self._pending, {}
        for one in pending.values():
            if not one.future.done():
                one.future.set_exception(type(error)(str(error)))


class RedisInbox:
    """`interface.Inbox`: the worker's side."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def take(self, max_images: int, timeout_s: float) -> list[ImageRequest]:
        """Up to so many waiting requests, oldest first; none when none came in time."""
        with translated():
            found: Any = self._client.blmpop(
                timeout_s, 1, INTERACTIVE_KEY, direction="LEFT", count=max_images
            )
        requests: list[ImageRequest] = []
        for data in found[1] if found else ():
            try:
                requests.append(ImageRequest.unpack(data))
            except (ValueError, TypeError):
                log.exception("a request that cannot be read was dropped")
        return requests

    def reply(self, replies: Sequence[tuple[str, ImageReply]]) -> None:
        """Send replies, each to the `reply_to` of its request, in one round trip."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for reply_to, reply in replies:
                pipe.rpush(reply_to, reply.pack())
            for reply_to in {reply_to for reply_to, _ in replies}:
                pipe.expire(reply_to, INBOX_TTL_S)
            pipe.execute()

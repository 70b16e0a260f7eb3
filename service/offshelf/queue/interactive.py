"""Request and reply over Redis lists, for clients that wait on the line.

Requests go to the list of their route (see `core.routing`), which the workers that can load the
backbone take from. Each API process has a reply list of
its own, read by one task, which hands every reply to whoever asked. Nothing here is durable: an
ask ends in its replies or in an error at its deadline, when the connection is lost, or when the
last worker has gone. When one worker of several has vanished without a word, what was sent before
and is still unanswered is sent again: the API cannot know what died with it, and a second answer
to the same image is dropped. Whoever stops waiting says so, and the workers drop the rest.
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

from offshelf.core.routing import ANY, Station, Takes, route
from offshelf.errors import (
    CapacityError,
    DeadlineExceeded,
    DependencyError,
    NoWorker,
    OffshelfError,
    WorkerError,
)
from offshelf.queue.connection import PREFIX, text, translated
from offshelf.queue.directory import WORKERS_KEY, left_key, station_key, stations_of
from offshelf.queue.messages import ImageReply, ImageRequest
from offshelf.queue.routes import LIST_PREFIX, QUEUED, ROUTES_KEY, list_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    import redis.asyncio

log = logging.getLogger(__name__)

# A reply list is gone so long after the last reply: its API process has died.
INBOX_TTL_S: Final = 120
# How long one blocking read waits; below the client's time-out.
BLOCK_S: Final = 1.0
READ_COUNT: Final = 64
SEND_COUNT: Final = 64
RECONNECT_S: Final = 0.2
# For so long at most it is known that nobody waits for a request any more.
GONE_MAX_S: Final = 3600.0
# How stale our view of the workers may be.
WORKERS_S: Final = 1.0
# Images that wait for workers which have the backbone, from which on others help with it.
FOREIGN_BACKLOG: Final = 32
# What Retry-After is made of while no worker has measured itself.
ASSUMED_IMAGES_PER_S: Final = 20.0

Key = tuple[str, int]


def inbox_key(api_id: str) -> str:
    """List: packed `ImageReply`s for one API process."""
    return f"{PREFIX}inbox:{api_id}"


def gone_key(request_id: str) -> str:
    """String, with a TTL: the Unix time since which nobody waits for this request."""
    return f"{PREFIX}gone:{request_id}"


@dataclass(slots=True)
class _Pending:
    """A request that was sent, and whoever waits for its reply."""

    request: ImageRequest
    future: asyncio.Future[ImageReply]
    sent_s: float
    route: str = ""


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
        self._stations: dict[str, Station] = {}
        self._vanished_s: float | None = None
        self._stations_until_s = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._telling: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        """Begin to read replies."""
        self._tasks = [
            asyncio.create_task(self._forever(self._read), name="replies"),
            asyncio.create_task(self._forever(self._watch_workers), name="worker-watch"),
        ]

    async def close(self) -> None:
        """Stop reading; whoever still waits gets a DependencyError."""
        # Cancelling alone does not do: redis-py now and then swallows a cancellation.
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks or self._telling:
            await asyncio.wait({*self._tasks, *self._telling}, timeout=3 * BLOCK_S)
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
        loop, now_s = asyncio.get_running_loop(), self._clock()
        waiting = {
            (r.request_id, r.index): _Pending(r, loop.create_future(), now_s) for r in requests
        }
        self._pending.update(waiting)
        timeout_s = max(r.deadline_s for r in requests) - self._clock()
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._send(list(waiting.values()))
                return list(await asyncio.gather(*(one.future for one in waiting.values())))
        except TimeoutError:
            raise DeadlineExceeded("no answer before the deadline of the request") from None
        except asyncio.CancelledError:
            # In a task of its own: what is cancelled here must not wait for Redis.
            telling = asyncio.create_task(self._tell_gone(list(waiting.values())))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
            raise
        finally:
            for key, one in waiting.items():
                self._pending.pop(key, None)
                one.future.cancel()

    async def _admit(self, images: int) -> None:
        """Raise NoWorker or CapacityError where it makes no sense to queue."""
        stations = await self._live_stations()
        if not stations:
            raise NoWorker("no worker is running; nothing can be computed")
        with translated():
            counting: Any = self._client.eval(QUEUED, 1, ROUTES_KEY, LIST_PREFIX)
            queued = int(await counting)
        if queued and queued + images > self._max_queued:
            rate = sum(one.images_per_s for one in stations.values()) or ASSUMED_IMAGES_PER_S
            raise CapacityError(
                f"{queued} images are queued and the limit is {self._max_queued}",
                retry_after_s=max(1.0, min(600.0, queued / rate)),
            )

    async def _tell_gone(self, waiting: Sequence[_Pending]) -> None:
        """Let the workers know that nobody waits any more; without Redis they compute in vain."""
        now_s = self._clock()
        ttl_s = max(one.request.deadline_s for one in waiting) - now_s
        if ttl_s <= 0:
            return
        with contextlib.suppress(DependencyError), translated():
            for request_id in {one.request.request_id for one in waiting}:
                ttl_ms = int(1000 * min(GONE_MAX_S, ttl_s)) + 1
                await self._client.set(gone_key(request_id), now_s, px=ttl_ms)

    async def _send(self, waiting: Sequence[_Pending]) -> None:
        """Put requests on the lists of their routes, which are as the workers are now."""
        stations = self._stations.values()
        by_route: dict[str, list[_Pending]] = {}
        for one in waiting:
            params = one.request.params
            one.route = route(params.get("backbone"), params.get("weights"), stations)
            by_route.setdefault(one.route, []).append(one)
        for name, group in by_route.items():
            for first in range(0, len(group), SEND_COUNT):
                await self._push(name, [one.request for one in group[first : first + SEND_COUNT]])

    async def _push(self, name: str, requests: Sequence[ImageRequest]) -> None:
        ttl_s = max(request.deadline_s for request in requests) - self._clock()
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.rpush(list_key(name), *[request.pack() for request in requests])
                # A list that no worker takes from any more must not stay for ever.
                pipe.expire(list_key(name), int(max(0.0, ttl_s)) + 1)
                pipe.sadd(ROUTES_KEY, name)
                await pipe.execute()

    async def _live_stations(self) -> dict[str, Station]:
        """The live workers, as they were at most `WORKERS_S` ago; empty: there is none."""
        if not self._stations or self._clock() >= self._stations_until_s:
            with translated():
                ids = sorted(text(member) for member in await self._client.smembers(WORKERS_KEY))
                found = await self._client.mget([station_key(name) for name in ids]) if ids else []
            stations = stations_of(ids, found)
            if await self._vanished(set(self._stations) - set(stations)):
                self._vanished_s = self._clock()
            self._stations = stations
            self._stations_until_s = self._clock() + WORKERS_S
        return self._stations

    async def _vanished(self, gone: Collection[str]) -> bool:
        """Whether any of these workers went without a word."""
        if not gone:
            return False
        with translated():
            left = await self._client.mget([left_key(name) for name in gone])
        return None in left

    async def _forever(self, action: Callable[[], Awaitable[None]]) -> None:
        """Repeat an action until `close`. When it fails, all who wait fail, and it goes on.

        A reply may have been lost with a connection, so nobody is left waiting for it.
        """
        while not self._closing:
            try:
                await action()
            except DependencyError as error:
                self._fail_all(error)
                await asyncio.sleep(RECONNECT_S)
            except Exception as error:
                log.exception("the replies' side of the queue failed and goes on")
                self._fail_all(WorkerError(f"{type(error).__name__}: {error}"))
                await asyncio.sleep(RECONNECT_S)

    async def _read(self) -> None:
        """Hand out what replies there are; ends after `BLOCK_S` when there are none."""
        with translated():
            found: Any = await self._reader.blmpop(
                BLOCK_S, 1, self.inbox, direction="LEFT", count=READ_COUNT
            )
        for data in found[1] if found else ():
            self._dispatch(data)

    async def _watch_workers(self) -> None:
        """Do something for those who wait for an answer of a worker that has gone."""
        await asyncio.sleep(WORKERS_S)
        if not self._pending:
            return
        with contextlib.suppress(DependencyError):  # told by `_read`
            stations = await self._live_stations()
            vanished_s, self._vanished_s = self._vanished_s, None
            if not stations:
                self._fail_all(NoWorker("the last worker left before it had answered"))
                return
            waiting = list(self._pending.values())
            lost = [one for one in waiting if vanished_s is not None and one.sent_s <= vanished_s]
            # Whoever could take these has left: those who are here may, or say why not.
            stuck = [one for one in waiting if one not in lost and not self._served(one.route)]
            await self._send([*lost, *stuck])

    def _served(self, name: str) -> bool:
        return name == ANY or any(name in one.serves for one in self._stations.values())

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
        self._turn = 0

    def take(self, max_images: int, timeout_s: float, takes: Takes) -> list[ImageRequest]:
        """Up to so many waiting requests of one route, oldest first; none when none came in time.

        Routes take turns. Foreign ones are looked at where nothing came of the own.
        """
        # Redis takes from the first list that is not empty: each route is first in its turn.
        self._turn = (self._turn + 1) % len(takes.own)
        own = [*takes.own[self._turn :], *takes.own[: self._turn]]
        with translated():
            found: Any = self._client.blmpop(
                timeout_s, len(own), *map(list_key, own), direction="LEFT", count=max_images
            )
            crowded = None if found or not takes.foreign else self._crowded(takes.foreign)
            if crowded is not None:
                found = self._client.lmpop(1, crowded, direction="LEFT", count=max_images)
        requests: list[ImageRequest] = []
        for data in found[1] if found else ():
            try:
                requests.append(ImageRequest.unpack(data))
            except (ValueError, TypeError):
                log.exception("a request that cannot be read was dropped")
        return requests

    def put_back(self, route: str, requests: Sequence[ImageRequest]) -> None:
        """Put requests that were taken where they came from, for another worker."""
        packed = [request.pack() for request in reversed(requests)]
        ttl_s = max(request.deadline_s for request in requests) - time.time()
        with translated(), self._client.pipeline(transaction=True) as pipe:
            pipe.lpush(list_key(route), *packed)
            pipe.expire(list_key(route), int(max(0.0, ttl_s)) + 1)
            pipe.sadd(ROUTES_KEY, route)
            pipe.execute()

    def _crowded(self, routes: Sequence[str]) -> str | None:
        """The list of these routes with the most in it, if it is much."""
        keys = [list_key(name) for name in routes]
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.llen(key)
            waiting, key = max(zip(pipe.execute(), keys, strict=True))
        return key if waiting >= FOREIGN_BACKLOG else None

    def reply(self, replies: Sequence[tuple[str, ImageReply]]) -> None:
        """Send replies, each to the `reply_to` of its request, in one round trip."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for reply_to, reply in replies:
                pipe.rpush(reply_to, reply.pack())
            for reply_to in {reply_to for reply_to, _ in replies}:
                pipe.expire(reply_to, INBOX_TTL_S)
            answers = pipe.execute(raise_on_error=False)
        # Refused, and would be again. The others were taken, so there is nothing to repeat.
        for (reply_to, reply), answer in zip(replies, answers, strict=False):
            if isinstance(answer, RedisError):
                log.error(
                    "the reply to image %d of request %s was refused by %s: %s",
                    reply.index,
                    reply.request_id,
                    reply_to,
                    answer,
                )

    def gone(self, request_ids: Collection[str]) -> dict[str, float]:
        """Of these requests those that nobody waits for any more, each with the Unix time since."""
        ids = list(request_ids)
        with translated():
            found = self._client.mget([gone_key(request_id) for request_id in ids]) if ids else []
        pairs = zip(ids, found, strict=True)
        return {request_id: float(since) for request_id, since in pairs if since is not None}

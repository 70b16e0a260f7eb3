from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

from offshelf.core.routing import ANY, Station, Takes
from offshelf.errors import CapacityError, DeadlineExceeded, DependencyError, NoWorker, WorkerError
from offshelf.queue import connection
from offshelf.queue.directory import RedisDirectory, station_key
from offshelf.queue.embedded import EmbeddedValkey
from offshelf.queue.interactive import AsyncInteractive, RedisInbox, gone_key
from offshelf.queue.messages import ImageReply, ImageRequest, TapRow
from offshelf.queue.routes import ROUTES_KEY, list_key
from offshelf.schemas.backbones import WorkerBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


LIST = list_key("fakenet")
TAKES = Takes((ANY, "fakenet"))


def publish(
    directory: RedisDirectory,
    worker_id: str = "w1",
    ttl_s: float = 30,
    serves: str = "fakenet",
    resident: str = "",
    images_per_s: float = 10.0,
) -> None:
    """A live worker; names of backbones are parted by spaces."""
    station = Station(
        "fakenet",
        frozenset(serves.split()),
        resident=frozenset(resident.split()),
        images_per_s=images_per_s,
    )
    directory.publish(worker_body(worker_id, images_per_s), station, [], ttl_s)


def worker_body(worker_id: str = "w1", images_per_s: float = 10.0) -> WorkerBody:
    return WorkerBody(
        id=worker_id,
        host="here",
        pid=1,
        engine="fake",
        device="cpu",
        ready=True,
        started_s=0.0,
        beat_s=0.0,
        default_backbone="fakenet",
        images_per_s=images_per_s,
    )


@asynccontextmanager
async def asker(url: str, max_queued: int = 1000) -> AsyncIterator[AsyncInteractive]:
    async with (
        connection.connect_async(url, connection.STATE) as client,
        connection.connect_async(url, connection.STATE, retries=0) as reader,
    ):
        interactive = AsyncInteractive(client, reader, "api", max_queued)
        await interactive.start()
        try:
            yield interactive
        finally:
            await interactive.close()


def requests(
    interactive: AsyncInteractive,
    request_id: str,
    images: int,
    timeout_s: float = 20.0,
    params: dict[str, Any] | None = None,
) -> list[ImageRequest]:
    now_s = time.time()
    params = {"n": 1} if params is None else params
    return [
        ImageRequest(
            request_id, index, interactive.inbox, now_s + timeout_s, params, bytes([index]), now_s
        )
        for index in range(images)
    ]


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


class EchoWorker:
    """Answers from a thread, newest first in each group, with the image's byte as the feature."""

    def __init__(self, url: str) -> None:
        self._client = connection.connect(url, connection.STATE)
        self._inbox = RedisInbox(self._client)
        self._directory = RedisDirectory(self._client)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        publish(self._directory)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            taken = self._inbox.take(8, 0.1, TAKES)
            self._inbox.reply([(r.reply_to, echo(r)) for r in reversed(taken)])


def echo(request: ImageRequest) -> ImageReply:
    values = np.full((2, 3), request.image[0], np.float32)
    rows = {"fc7": TapRow({}, "f", values)}
    return ImageReply(request.request_id, request.index, backbone=request.request_id, rows=rows)


async def test_many_concurrent_asks_get_their_own_replies_in_order(url: str) -> None:
    with EchoWorker(url):
        async with asker(url) as interactive:
            asks = [requests(interactive, f"r{n}", 1 + n % 7) for n in range(64)]
            answers = await asyncio.gather(*map(interactive.ask, asks))
    for ask, answer in zip(asks, answers, strict=True):
        assert [(a.request_id, a.index) for a in answer] == [(r.request_id, r.index) for r in ask]
        assert [a.rows["fc7"].values[0, 0] for a in answer] == list(range(len(ask)))


async def test_256_asks_at_once_are_all_answered(url: str) -> None:
    with EchoWorker(url):
        async with asker(url) as interactive:
            asks = [requests(interactive, f"r{n}", 1) for n in range(256)]
            answers = await asyncio.gather(*map(interactive.ask, asks))
    assert [answer[0].request_id for answer in answers] == [f"r{n}" for n in range(256)]


async def test_a_bug_in_reading_replies_fails_who_waits_and_is_not_the_end(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection.connect(url, connection.STATE) as client:
        publish(RedisDirectory(client))
        async with asker(url) as interactive:
            ask = asyncio.create_task(interactive.ask(requests(interactive, "r", 1)))
            await until(lambda: client.llen(LIST))
            (request,) = RedisInbox(client).take(1, 1.0, TAKES)
            with monkeypatch.context() as patch:
                patch.setattr(interactive, "_dispatch", lambda _: 1 / 0)
                RedisInbox(client).reply([(interactive.inbox, echo(request))])
                with pytest.raises(WorkerError):
                    async with asyncio.timeout(10):
                        await ask
            with EchoWorker(url):
                (reply,) = await interactive.ask(requests(interactive, "again", 1))
            assert reply.backbone == "again"


async def test_a_worker_that_left_in_order_causes_nothing_to_be_sent_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offshelf.queue.interactive.WORKERS_S", 0.05)
    with connection.connect(url, connection.STATE) as client:
        directory, inbox = RedisDirectory(client), RedisInbox(client)
        publish(directory, "leaves")
        publish(directory, "lives")
        async with asker(url) as interactive:
            ask = asyncio.create_task(interactive.ask(requests(interactive, "r", 1)))
            await until(lambda: client.llen(LIST))
            (taken,) = inbox.take(1, 1.0, TAKES)
            directory.withdraw("leaves", answered=True)
            await until(lambda: list(interactive._stations) == ["lives"])
            await asyncio.sleep(0.2)  # several looks at the workers
            assert client.llen(LIST) == 0
            inbox.reply([(taken.reply_to, echo(taken))])
            await ask


async def test_what_was_sent_after_a_worker_vanished_is_not_sent_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection.connect(url, connection.STATE) as client:
        directory = RedisDirectory(client)
        publish(directory, "vanishes")
        publish(directory, "lives")
        async with asker(url) as interactive:
            before = asyncio.create_task(interactive.ask(requests(interactive, "before", 1)))
            await until(lambda: client.llen(LIST))
            client.delete(station_key("vanishes"))
            interactive._stations_until_s = 0.0
            after = asyncio.create_task(interactive.ask(requests(interactive, "after", 1)))
            await until(lambda: client.llen(LIST) == 3)
            taken = RedisInbox(client).take(9, 1.0, TAKES)
            assert [r.request_id for r in taken] == ["before", "after", "before"]
            RedisInbox(client).reply([(r.reply_to, echo(r)) for r in taken])
            await asyncio.gather(before, after)


async def test_a_client_that_leaves_is_told_to_the_workers(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        publish(RedisDirectory(client))
        async with asker(url) as interactive:
            ask = asyncio.create_task(interactive.ask(requests(interactive, "r", 3)))
            await until(lambda: client.llen(LIST) == 3)
            sent_s = time.time()
            ask.cancel()
            await until(lambda: RedisInbox(client).gone({"r", "other"}))
            gone = RedisInbox(client).gone({"r", "other"})
            assert list(gone) == ["r"]
            assert sent_s <= gone["r"] <= time.time()
            assert 0 < client.ttl(gone_key("r")) <= 21


async def test_a_reply_that_redis_refuses_takes_no_other_with_it(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.connect(url, connection.STATE) as client:
        client.set("no list", 1)
        replies = [(key, ImageReply("r", 0)) for key in ("inbox:a", "no list", "inbox:b")]
        RedisInbox(client).reply(replies)
        assert [client.llen(key) for key in ("inbox:a", "inbox:b")] == [1, 1]
        assert 0 < client.ttl("inbox:b") <= 120
    assert "was refused by no list" in caplog.text


async def test_without_a_worker_nothing_is_queued(url: str) -> None:
    async with asker(url) as interactive:
        with pytest.raises(NoWorker):
            await interactive.ask(requests(interactive, "r", 1))
    with connection.connect(url, connection.STATE) as client:
        assert client.llen(LIST) == 0


async def test_too_much_queued_is_refused_with_the_time_it_takes(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        publish(RedisDirectory(client), "w1", images_per_s=10.0)
        publish(RedisDirectory(client), "w2", images_per_s=30.0)
        client.rpush(LIST, *[b"x"] * 300)
        client.rpush(list_key("othernet"), *[b"x"] * 100)
        client.sadd(ROUTES_KEY, "fakenet", "othernet", "empty")
        async with asker(url, max_queued=400) as interactive:
            with pytest.raises(CapacityError) as refused:
                await interactive.ask(requests(interactive, "r", 1))
        assert client.smembers(ROUTES_KEY) == {b"fakenet", b"othernet"}
    assert refused.value.retry_after_s == pytest.approx(10.0)


async def test_an_ask_ends_at_its_deadline_and_leaves_nothing_behind(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        publish(RedisDirectory(client))
        async with asker(url) as interactive:
            with pytest.raises(DeadlineExceeded):
                await interactive.ask(requests(interactive, "r", 3, timeout_s=0.2))
            assert interactive._pending == {}


async def test_an_ask_that_is_cancelled_leaves_nothing_behind(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        publish(RedisDirectory(client))
        async with asker(url) as interactive:
            ask = asyncio.create_task(interactive.ask(requests(interactive, "r", 3)))
            await until(lambda: len(interactive._pending) == 3)
            ask.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ask
            assert interactive._pending == {}


async def test_an_ask_ends_when_the_last_worker_has_gone(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        directory = RedisDirectory(client)
        publish(directory)
        async with asker(url) as interactive:
            ask = asyncio.create_task(interactive.ask(requests(interactive, "r", 1)))
            await until(lambda: interactive._pending)
            directory.withdraw("w1", answered=True)
            async with asyncio.timeout(10):
                with pytest.raises(NoWorker):
                    await ask


async def test_what_died_with_one_worker_is_answered_by_another(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        directory, inbox = RedisDirectory(client), RedisInbox(client)
        publish(directory, "dies")
        publish(directory, "lives")
        async with asker(url) as interactive:
            ask = asyncio.create_task(interactive.ask(requests(interactive, "r", 2)))
            await until(lambda: client.llen(LIST) == 2)
            lost = inbox.take(2, 1.0, TAKES)
            await interactive._live_stations()
            client.delete(station_key("dies"))
            await until(lambda: client.llen(LIST) == 2)
            for request in [*inbox.take(2, 1.0, TAKES), *lost]:  # the dead one's may still arrive
                reply = ImageReply(request.request_id, request.index, backbone="fakenet")
                inbox.reply([(request.reply_to, reply)])
            async with asyncio.timeout(10):
                assert [reply.index for reply in await ask] == [0, 1]


async def test_a_server_killed_under_an_ask_ends_it_and_the_next_one_is_answered(
    tmp_path: Path, server_url: str
) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    url = server.start()
    try:
        with connection.connect(url, connection.STATE) as client:
            publish(RedisDirectory(client))
            async with asker(url) as interactive:
                ask = asyncio.create_task(interactive.ask(requests(interactive, "r", 2)))
                await until(lambda: client.llen(LIST))
                os.kill(server.process_id(), signal.SIGKILL)
                async with asyncio.timeout(10):
                    with pytest.raises(DependencyError):
                        await ask
                await until(server.ensure)
                with EchoWorker(url):
                    (reply,) = await interactive.ask(requests(interactive, "again", 1))
                assert reply.backbone == "again"
    finally:
        server.stop()


def test_a_worker_takes_no_more_than_it_asks_for(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        packed = [ImageRequest("r", index, "inbox", 0.0, {}, b"", 0.0).pack() for index in range(5)]
        client.rpush(LIST, packed[0], b"garbage", *packed[1:])
        inbox = RedisInbox(client)
        assert [r.index for r in inbox.take(4, 0.1, TAKES)] == [0, 1, 2]
        assert [r.index for r in inbox.take(4, 0.1, TAKES)] == [3, 4]
        assert inbox.take(4, 0.05, TAKES) == []


def test_a_worker_that_stops_beating_leaves_the_directory(url: str) -> None:
    with connection.connect(url, connection.STATE) as client:
        directory = RedisDirectory(client)
        publish(directory, "b")
        publish(directory, "a", 0.03)
        deadline_s = time.monotonic() + 5
        while [body.id for body in directory.workers()] != ["b"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        directory.withdraw("b", answered=True)
        assert directory.workers() == []

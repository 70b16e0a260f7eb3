"""The content cache in a real server of its own."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest
import redis

from offshelf.cache.opening import open_cache
from offshelf.cache.redis_values import RedisValues
from offshelf.cache.sqlite_values import SqliteValues
from offshelf.errors import DependencyError, InvalidParameter
from offshelf.queue import connection
from offshelf.queue.embedded import EmbeddedValkey
from offshelf.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


MIB = 1 << 20


@pytest.fixture(scope="module")
def own_url(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Iterator[str]:
    """A second server, which is not the queue's."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("cache"))
    yield server.start()
    server.stop()


@pytest.fixture
def broker(url: str) -> Callable[[], redis.Redis]:
    return lambda: connection.connect(url, connection.BROKER)


def named(number: int) -> bytes:
    return number.to_bytes(32, "little")


def test_what_was_put_is_got(own_url: str, broker: Callable[[], redis.Redis]) -> None:
    values = RedisValues(own_url, 64 * MIB, broker)
    values.put({named(1): b"one", named(2): b"two"})
    assert values.get([named(2), named(3), named(1)]) == [b"two", None, b"one"]
    assert values.get([]) == []
    values.close()


def test_it_is_bounded_and_forgets(own_url: str, broker: Callable[[], redis.Redis]) -> None:
    values = RedisValues(own_url, 8 * MIB, broker)
    for first in range(0, 400, 20):
        values.put({named(n): bytes(100_000) for n in range(first, first + 20)})
    there = sum(value is not None for value in values.get([named(n) for n in range(400)]))
    assert 10 < there < 84
    values.close()


@pytest.mark.parametrize("database", [0, 1, 5])
def test_the_server_of_the_queue_is_refused_whatever_the_database(
    url: str, broker: Callable[[], redis.Redis], database: int
) -> None:
    same = connection.database_url(url, database)
    with pytest.raises(InvalidParameter, match="is the Redis of the queue"):
        open_cache(Settings(cache_url=same), broker)
    client = broker()
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    client.close()


def test_the_settings_choose(
    own_url: str, broker: Callable[[], redis.Redis], tmp_path: Path
) -> None:
    by_default = Settings(data_dir=tmp_path)
    assert isinstance(open_cache(by_default, broker), SqliteValues)
    assert open_cache(by_default.model_copy(update={"cache_bytes": 0}), broker) is None
    file = by_default.model_copy(update={"cache_url": (tmp_path / "there").as_uri()})
    assert isinstance(open_cache(file, broker), SqliteValues)
    other = by_default.model_copy(update={"cache_url": own_url})
    assert isinstance(open_cache(other, broker), RedisValues)
    wrong = by_default.model_copy(update={"cache_url": "memcached://host"})
    with pytest.raises(InvalidParameter, match="file://, redis://"):
        open_cache(wrong, broker)


def test_a_server_that_is_away_is_a_dependency_error_and_may_come_back(
    tmp_path: Path, url: str, broker: Callable[[], redis.Redis]
) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    values = RedisValues(server.start(), 64 * MIB, broker)
    try:
        values.put({named(1): b"one"})
        pid = server.process_id()
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid)], 10)
        with pytest.raises(DependencyError):
            values.get([named(1)])
        assert server.ensure()
        assert values.get([named(2)]) == [None]
        there = redis.Redis.from_url(server.url)
        assert there.config_get("maxmemory")["maxmemory"] == str(64 * MIB), "told again"
        there.close()
    finally:
        values.close()
        server.stop()

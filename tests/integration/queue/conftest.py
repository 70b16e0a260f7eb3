"""One real embedded server for all tests here; each test gets it empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf.errors import DependencyError
from offshelf.queue import connection
from offshelf.queue.embedded import EmbeddedValkey, find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        find_binary(None)
    except DependencyError as error:
        pytest.skip(str(error))
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    yield server.start()
    server.stop()


@pytest.fixture
def url(server_url: str) -> str:
    with connection.connect(server_url, connection.STATE) as client:
        client.flushall()
    return server_url


@pytest.fixture
def state(url: str) -> Iterator[redis.Redis]:
    with connection.connect(url, connection.STATE) as client:
        yield client

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from typing import TYPE_CHECKING

import pytest

from offshelf.errors import DependencyError
from offshelf.queue import connection
from offshelf.queue.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path, server_url: str) -> Iterator[EmbeddedValkey]:
    """A server of its own (`server_url` skips where there is no binary)."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(condition: object, timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_the_directory_is_private_and_no_port_is_open(
    server: EmbeddedValkey, tmp_path: Path
) -> None:
    assert stat.S_IMODE((tmp_path / "valkey").stat().st_mode) == 0o700
    with connection.connect(server.url, connection.STATE) as client:
        config = {**client.config_get("port"), **client.config_get("maxmemory-policy")}
        assert config == {"port": "0", "maxmemory-policy": "noeviction"}


def test_what_was_acknowledged_outlives_a_kill_and_the_server_comes_back(
    server: EmbeddedValkey,
) -> None:
    with connection.connect(server.url, connection.STATE) as client:
        for number in range(100):
            client.rpush("list", number)
        assert client.waitaof(1, 0, 10_000)[0] == 1  # synced
        process_id = server.process_id()
        os.kill(process_id, signal.SIGKILL)
        wait_until(server.ensure)
        assert server.process_id() != process_id
        assert client.lrange("list", 0, -1) == [str(n).encode() for n in range(100)]
    assert server.ensure() is False


def test_a_second_user_attaches_and_the_last_one_to_leave_stops_the_server(
    server: EmbeddedValkey, tmp_path: Path
) -> None:
    second = EmbeddedValkey(tmp_path / "valkey")
    assert second.start() == server.url
    process_id = server.process_id()
    assert second.process_id() == process_id
    server.stop()
    assert second.process_id() == process_id
    second.stop()
    with pytest.raises(DependencyError):
        second.process_id()


def test_simultaneous_starters_share_one_server(tmp_path: Path, server_url: str) -> None:
    servers = [EmbeddedValkey(tmp_path / "shared") for _ in range(4)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({server.process_id() for server in servers}) == 1
    for server in servers:
        server.stop()


def test_a_long_path_gets_a_short_socket_elsewhere(tmp_path: Path, server_url: str) -> None:
    server = EmbeddedValkey(tmp_path / ("d" * 60) / ("e" * 60))
    try:
        url = server.start()
        assert len(url) < 108
        with connection.connect(url, connection.STATE) as client:
            assert client.ping()
    finally:
        server.stop()
    assert not server._socket.parent.exists()


def test_a_program_that_is_no_server_is_told(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey", binary=tmp_path / "false")
    (tmp_path / "false").write_text("#!/bin/sh\necho broken >&2\nexit 7\n")
    (tmp_path / "false").chmod(0o755)
    with pytest.raises(DependencyError, match="status 7: broken"):
        server.start()

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import pytest
import redis

from offshelf.errors import DependencyError
from offshelf.queue import embedded
from offshelf.queue.embedded import MAX_SOCKET_PATH_BYTES, find_binary, socket_path


def test_the_socket_is_in_the_directory_where_its_path_fits() -> None:
    assert socket_path(Path("/data")) == Path("/data/valkey.sock")


def test_long_directories_have_short_sockets_of_their_own() -> None:
    long, other = Path("/d" * 80), Path("/e" * 80)
    assert len(os.fsencode(socket_path(long))) <= MAX_SOCKET_PATH_BYTES
    assert socket_path(long) == socket_path(long) != socket_path(other)


def program(folder: Path, name: str, version: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'Server v={version} sha=0'\n")
    path.chmod(0o755)
    return path


def test_a_server_on_path_is_taken_unless_it_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program(tmp_path, "valkey-server", "6.2.14")
    redis = program(tmp_path, "redis-server", "7.0.15")
    assert find_binary(None) == redis
    assert find_binary(Path("/configured")) == Path("/configured")


def test_without_any_server_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "_from_wheel", lambda: None)
    with pytest.raises(DependencyError, match=r"offshelf\[embedded\]"):
        find_binary(None)


def test_a_server_that_refuses_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk lets it answer nothing but an error; whoever keeps it alive must not end."""

    class Full:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def ping(self) -> bool:
            raise redis.ResponseError("MISCONF Errors writing to the AOF file")

    server = embedded.EmbeddedValkey(tmp_path)
    monkeypatch.setattr(server, "_client", Full)
    assert server.ensure() is False

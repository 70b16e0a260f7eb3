"""An API that stops while somebody follows a job, with a real process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from offshelf.queue.events import SILENCE_S
from offshelf.queue.jobs import RedisJobs
from tests.serving import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def api(url: str, port: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    wanted = {"REDIS_URL": url, "PORT": str(port), "DATA_DIR": str(tmp_path)}
    environment = os.environ | {f"OFFSHELF_{name}": value for name, value in wanted.items()}
    process = subprocess.Popen([sys.executable, "-m", "offshelf.cli", "api"], env=environment)
    yield process
    process.kill()
    process.wait(10)


def test_an_api_that_stops_does_not_wait_for_those_who_follow_a_job(
    api: subprocess.Popen[bytes], port: int, state: redis.Redis
) -> None:
    job, _ = RedisJobs(state, ttl_s=1000).create("head", "default", {})
    address = f"http://127.0.0.1:{port}"
    eventually(lambda: alive(address), "the API answers", 30)
    with httpx.stream("GET", f"{address}/v1/jobs/{job.id}/events", timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": keep-alive"
        api.terminate()
        since_s = time.monotonic()
        assert ": interrupted" in list(lines)
    api.wait(10)
    assert time.monotonic() - since_s < SILENCE_S + 3


def alive(address: str) -> bool:
    try:
        return httpx.get(f"{address}/livez", timeout=1).is_success
    except httpx.TransportError:
        return False

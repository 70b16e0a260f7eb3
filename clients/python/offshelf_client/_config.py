"""How patient the client is: where it calls, its time-outs and its retries."""

from __future__ import annotations

import os
import random as _random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

DEFAULT_URL: Final = "http://127.0.0.1:8765"

Sleep: TypeAlias = Callable[[float], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Timeout:
    """Seconds to wait: to connect, between two reads, between two writes, for a free connection.

    The server answers a request within its deadline (120 s unless set otherwise), so `read` is
    somewhat more. Example: `Client(timeout=Timeout(read=30))`.
    """

    connect: float = 5.0
    read: float = 150.0
    write: float = 60.0
    pool: float = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a call is made again.

    Calls are repeated after connection errors and after the statuses 429, 503 and 504 where
    the service says that a retry can help; never where a repeat could do something twice. The
    n-th pause is uniform in [0, min(cap_s, base_s * 2**n)] ("full jitter"), and after a
    Retry-After of the server at least that long. `attempts` counts all tries; a pause that
    would end later than `total_s` after the first try is not begun.

    `random` (in [0, 1)), `clock` (seconds) and `sleep` (may return an awaitable) are there to
    be replaced in tests. Example: `Client(retry=Retry(attempts=1))` never repeats.
    """

    attempts: int = 6
    base_s: float = 0.25
    cap_s: float = 10.0
    total_s: float = 120.0
    random: Callable[[], float] = field(default=_random.random, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Sleep | None = field(default=None, repr=False)


def base_url(url: str | None) -> str:
    """The service's address: as given, else `OFFSHELF_URL`, else this machine.

    `http://` is put before an address without a scheme, and a final `/v1` is left out: the
    routes bring it.
    """
    given = (url or os.environ.get("OFFSHELF_URL") or DEFAULT_URL).strip()
    address = given if "://" in given else f"http://{given}"
    return address.rstrip("/").removesuffix("/v1").rstrip("/")

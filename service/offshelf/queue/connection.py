"""Redis clients with time-outs and bounded retries, and its exceptions in our own words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from offshelf.core.addresses import shown
from offshelf.errors import DependencyError, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterator

# Dramatiq's maintenance runs KEYS, so the broker has a database to itself. Both count from the
# database that the URL names.
BROKER: Final = 0
STATE: Final = 1

PREFIX: Final = "offshelf:"

CONNECT_TIMEOUT_S: Final = 5.0
# Above every time that we let Redis block on our behalf.
ANSWER_TIMEOUT_S: Final = 15.0
# In all about 3 s of trying: a server that restarts is met again, one that is gone is told.
RETRIES: Final = 6
BACKOFF_BASE_S: Final = 0.05
BACKOFF_CAP_S: Final = 1.0
# Of one asynchronous client. Whoever finds all of them in use waits for one, up to so long.
ASYNC_CONNECTIONS: Final = 128
POOL_TIMEOUT_S: Final = 10.0

_LOST = (redis.ConnectionError, redis.TimeoutError)


def database_url(url: str, offset: int) -> str:
    """`url` with the database number `offset` above its own (0 where it names none)."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise InvalidParameter(
            f"Redis URL {shown(url)}: the schemes are redis://, rediss://, unix://"
        )
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        query["db"] = str(_number(query.get("db", ""), url) + offset)
        # urlunsplit leaves out an empty host, which redis-py insists on.
        return f"unix://{parts.netloc}{parts.path}?{urlencode(query)}"
    path = f"/{_number(query.pop('db', parts.path.strip('/')), url) + offset}"
    return urlunsplit(parts._replace(path=path, query=urlencode(query)))


def _number(text: str, url: str) -> int:
    if text and not text.isdecimal():
        raise InvalidParameter(f"Redis URL {shown(url)}: {text!r} is not a database number")
    return int(text or 0)


def connect(url: str, database: int, *, retries: int = RETRIES) -> redis.Redis:
    """A client for threads; it connects when first used."""
    return redis.Redis.from_url(
        database_url(url, database),
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=30,
        protocol=2,  # the shape of answers differs between 2 and 3; we read the older
        retry=Retry(_backoff(), retries, supported_errors=_LOST),
    )


def connect_async(
    url: str, database: int, *, retries: int = RETRIES, connections: int = ASYNC_CONNECTIONS
) -> redis.asyncio.Redis:
    """A client for one event loop, with up to so many connections; it connects when first used.

    A client whose commands block for long is to be one of its own: nobody else gets through.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        database_url(url, database),
        max_connections=connections,
        timeout=POOL_TIMEOUT_S,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=30,
        protocol=2,  # the shape of answers differs between 2 and 3; we read the older
        retry=AsyncRetry(_backoff(), retries, supported_errors=_LOST),
    )
    return redis.asyncio.Redis.from_pool(pool)


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=BACKOFF_BASE_S, cap=BACKOFF_CAP_S)


def text(answer: Any) -> str:
    """A key, id or field of an answer as text; the client's types leave open what it is."""
    return answer.decode() if isinstance(answer, bytes) else str(answer)


@contextmanager
def translated() -> Iterator[None]:
    """Raise DependencyError for whatever Redis raises; the one place that knows its exceptions."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise DependencyError(
            f"Redis does not serve us: {error}", "Redis does not serve us; the log has more"
        ) from error

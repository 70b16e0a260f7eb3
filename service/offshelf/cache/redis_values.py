"""The content cache in a Redis of its own: for workers on many hosts. Never the broker's."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from offshelf.core.addresses import shown
from offshelf.errors import DependencyError, InvalidParameter
from offshelf.queue.connection import PREFIX, text, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# A cache that is slower than this is no help.
ANSWER_S: Final = 1.0
_SCHEMES: Final = ("redis", "rediss", "unix")


class RedisValues:
    """`interface.Values` in the Redis at `url`, which forgets what is used least.

    At the first use it is told to hold `max_bytes` at most and to drop old entries; where it does
    not let itself be told it must be configured so. `broker` gives the broker's connection, to
    make sure that this is another server. Raises InvalidParameter for what only a person can mend.
    """

    def __init__(self, url: str, max_bytes: int, broker: Callable[[], redis.Redis]) -> None:
        if urlsplit(url).scheme not in _SCHEMES:
            raise InvalidParameter(f"cache URL {shown(url)}: the schemes are {', '.join(_SCHEMES)}")
        self._url = url
        self._max_bytes = max_bytes
        self._broker = broker
        self._checking = threading.Lock()
        self._checked = False
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            protocol=2,
            retry=Retry(NoBackoff(), 1),
        )

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, or None."""
        with self._using():
            found: Any = self._client.mget([_name(key) for key in keys]) if keys else []
        return list(found)

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values."""
        with self._using():
            self._client.mset({_name(key): value for key, value in values.items()})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Checked; and again after an error, since a server that comes back may have forgotten."""
        self.check()
        try:
            with translated():
                yield
        except DependencyError:
            self._checked = False
            raise

    def check(self) -> None:
        """Once: that it is not the broker's server, and that its size is bounded."""
        with self._checking:
            if self._checked:
                return
            with translated():
                self._check_apart()
                self._bound()
            self._checked = True

    def _check_apart(self) -> None:
        if _run_id(self._client) == _run_id(self._broker()):
            raise InvalidParameter(
                f"OFFSHELF_CACHE_URL ({shown(self._url)}) is the Redis of the queue, which would "
                "drop jobs to make room for features: give the cache a server of its own, or leave "
                "it unset for a file in the data directory"
            )

    def _bound(self) -> None:
        """See that it forgets: told to, or set up so."""
        try:
            self._client.config_set("maxmemory", self._max_bytes)
            self._client.config_set("maxmemory-policy", "allkeys-lru")
        except redis.ResponseError:
            memory: Any = self._client.info("memory")
            policy = text(memory.get("maxmemory_policy", ""))
            if not memory.get("maxmemory") or not policy.startswith("allkeys"):
                raise InvalidParameter(
                    f"the cache at {shown(self._url)} does not let itself be bounded: set its "
                    "maxmemory, and its maxmemory-policy to allkeys-lru"
                ) from None


def _name(key: bytes) -> bytes:
    return f"{PREFIX}cache:".encode() + key


def _run_id(client: redis.Redis) -> str:
    server: Any = client.info("server")
    if "run_id" not in server:
        raise DependencyError("a Redis that does not say which one it is")
    return text(server["run_id"])

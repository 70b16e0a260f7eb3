"""The content cache that the settings name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from offshelf.cache.redis_values import RedisValues
from offshelf.cache.sqlite_values import SqliteValues
from offshelf.core.addresses import shown
from offshelf.errors import DependencyError, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from offshelf.cache.interface import Values
    from offshelf.settings import Settings

log = logging.getLogger(__name__)


def open_cache(settings: Settings, broker: Callable[[], redis.Redis]) -> Values | None:
    """A file in the data directory, or where `OFFSHELF_CACHE_URL` says; None where it is off.

    Raises InvalidParameter for another scheme, and for the broker's own server.
    """
    if not settings.cache_bytes:
        return None
    if settings.cache_url is None:
        return SqliteValues(settings.data_dir / "cache", settings.cache_bytes)
    parts = urlsplit(settings.cache_url)
    if parts.scheme == "file":
        return SqliteValues(Path(unquote(parts.path)), settings.cache_bytes)
    if parts.scheme in ("redis", "rediss", "unix"):
        values = RedisValues(settings.cache_url, settings.cache_bytes, broker)
        try:
            values.check()
        except DependencyError as error:
            log.warning("the cache at %s is away for now: %s", shown(settings.cache_url), error)
        return values
    raise InvalidParameter(
        f"cache URL {shown(settings.cache_url)!r}: the schemes are file://, redis://, rediss:// "
        "and unix://"
    )

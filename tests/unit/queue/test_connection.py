from __future__ import annotations

import pytest
import redis

from offshelf.errors import DependencyError, InvalidParameter
from offshelf.queue.connection import database_url, translated


@pytest.mark.parametrize(
    ("url", "with_one"),
    [
        ("redis://host:6379", "redis://host:6379/1"),
        ("redis://u:p%40@host/3", "redis://u:p%40@host/4"),
        ("rediss://host/?ssl_cert_reqs=none", "rediss://host/1?ssl_cert_reqs=none"),
        ("redis://host?db=2", "redis://host/3"),
        ("unix:///run/a.sock", "unix:///run/a.sock?db=1"),
        ("unix:///run/a.sock?db=4", "unix:///run/a.sock?db=5"),
    ],
)
def test_the_second_database_is_one_above_the_url_s_own(url: str, with_one: str) -> None:
    assert database_url(url, 1) == with_one


@pytest.mark.parametrize("url", ["http://host", "host:6379", "redis://host/zero"])
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidParameter):
        database_url(url, 0)


def test_what_redis_raises_is_a_dependency_error() -> None:
    with pytest.raises(DependencyError, match="gone"), translated():
        raise redis.ConnectionError("gone")

"""Real services for the end-to-end tests; one for the module where the test does no harm to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf_client import Client
from tests.serving import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that tests share; they must leave it as healthy as they found it."""
    # Without the content cache: what is asked again is computed again, and counted.
    with Service(tmp_path_factory.mktemp("service") / "data", {"cache_bytes": 0}) as running:
        yield running


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[Client]:
    """An SDK client of the shared service."""
    with Client(service.url) as connected:
        yield connected


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own, to be hurt. Shards are small and recovery is quick."""
    settings = {
        "shard_images": 8,
        "heartbeat_timeout_s": 3,
        "maintenance_chance": 1_000_000,
        "cache_bytes": 0,
    }
    with Service(tmp_path / "data", settings) as running:
        yield running

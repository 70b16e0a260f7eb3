"""The API over in-memory ports, spoken to without a socket."""

from __future__ import annotations

import io
import itertools
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from offshelf.api.app import create_app
from offshelf.api.services import Services
from offshelf.settings import Settings
from offshelf.store.objects import ObjectStore
from tests.unit.api.fakes import (
    FakeDirectory,
    FakeEvents,
    FakeInteractive,
    FakeJobs,
    FakeQueue,
    FakeSelfTests,
    worker,
)
from tests.unit.pictures import picture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fastapi import FastAPI


@dataclass
class Ports:
    """The fakes behind one app."""

    store: ObjectStore = field(default_factory=lambda: ObjectStore.open("memory://"))
    jobs: FakeJobs = field(default_factory=FakeJobs)
    job_queue: FakeQueue = field(default_factory=FakeQueue)
    events: FakeEvents = field(default_factory=FakeEvents)
    interactive: FakeInteractive = field(default_factory=FakeInteractive)
    directory: FakeDirectory = field(default_factory=lambda: FakeDirectory([worker("w1")]))
    selftests: FakeSelfTests = field(default_factory=FakeSelfTests)

    def services(self) -> Services:
        ids = itertools.count()
        return Services(
            self.store,
            self.jobs,
            self.job_queue,
            self.events,
            self.interactive,
            self.directory,
            self.selftests,
            now_s=lambda: 1000.0,
            new_id=lambda: f"id{next(ids)}",
        )


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        max_image_bytes=1000,
        max_request_bytes=20_000,
        max_request_images=4,
        max_archive_bytes=100_000,
        max_archive_files=50,
        request_deadline_s=5,
    )


@pytest.fixture
def app(ports: Ports, settings: Settings) -> FastAPI:
    return create_app(ports.services(), settings)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


@pytest.fixture
def zipped() -> Callable[[dict[str, bytes]], bytes]:
    def make(files: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for path, data in files.items():
                archive.writestr(path, data)
        return out.getvalue()

    return make


@pytest.fixture
def pets(zipped: Callable[[dict[str, bytes]], bytes]) -> bytes:
    """An archive of two classes."""
    return zipped({f"pets/{path}.jpg": picture(path) for path in ("cat/1", "cat/2", "dog/1")})

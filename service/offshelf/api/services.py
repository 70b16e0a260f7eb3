"""What the API stands on: the ports that bootstrap hands to `create_app`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from fastapi import Depends, Request

from offshelf.api.metrics import ApiMetrics
from offshelf.datasets.sources import NO_SOURCES, Sources
from offshelf.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from offshelf.queue.interface import (
        Directory,
        Interactive,
        JobEvents,
        JobQueue,
        Jobs,
        SelfTests,
    )
    from offshelf.store.interface import Store

# Every record has an owner from the start; there is one until there are API keys.
OWNER: Final = "default"


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Services:
    """The ports of the API, its clock and its source of ids.

    `resources` are opened in order when the app starts and closed in reverse when it stops.
    """

    store: Store
    jobs: Jobs
    job_queue: JobQueue
    events: JobEvents
    interactive: Interactive
    directory: Directory
    selftests: SelfTests
    sources: Sources = NO_SOURCES
    resources: tuple[AbstractAsyncContextManager[Any], ...] = ()
    now_s: Callable[[], float] = time.time
    new_id: Callable[[], str] = _new_id


# Coroutines, though they await nothing: FastAPI sends plain functions to a thread, which costs
# more than all else that the API does for a small request.
async def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


async def _settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)


async def _closing(request: Request) -> Callable[[], bool]:
    return cast("Callable[[], bool]", request.app.state.closing)


async def _metrics(request: Request) -> ApiMetrics:
    return cast("ApiMetrics", request.app.state.metrics)


ServicesOf = Annotated[Services, Depends(_services)]
SettingsOf = Annotated[Settings, Depends(_settings)]
# Whether the server is about to stop: it waits for open answers, so endless ones have to end.
ClosingOf = Annotated[Callable[[], bool], Depends(_closing)]
MetricsOf = Annotated[ApiMetrics, Depends(_metrics)]


def request_id_of(request: Request) -> str:
    """The id that the middleware gave to the request."""
    return cast("str", request.scope["state"]["request_id"])

"""Puts the HTTP API together over the ports it is given."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from offshelf import __version__
from offshelf.api import errors, openapi
from offshelf.api.exporting import Exporter
from offshelf.api.limits import ClientImages
from offshelf.api.metrics import ApiMetrics
from offshelf.api.middleware import BodyLimit, RequestContext
from offshelf.api.routes import (
    backbones,
    datasets,
    feature_set_files,
    feature_sets,
    features,
    heads,
    health,
    jobs,
    registry,
    reports,
    selftest,
    transforms,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Scope

    from offshelf.api.services import Services
    from offshelf.settings import Settings

ROUTERS: Final = (
    features.router,
    backbones.router,
    datasets.router,
    feature_sets.router,
    feature_set_files.router,
    registry.router,  # before `/v1/heads/{head}`, which would take `compare` for a head
    heads.router,
    reports.router,
    transforms.router,
    jobs.router,
    health.router,
    selftest.router,
)
UPLOAD_PATH: Final = re.compile(r"/v1/datasets(/[^/]+/images)?/?")


def create_app(deps: Services, settings: Settings) -> FastAPI:
    """The API over `deps`. Starting it opens `deps.resources`, stopping it closes them.

    Who serves it sets `state.closing`, which says whether the server is about to stop.
    """
    app = FastAPI(title=openapi.TITLE, version=__version__, lifespan=_lifespan)
    app.state.services = deps
    app.state.settings = settings
    app.state.closing = lambda: False
    app.state.metrics = ApiMetrics()
    app.state.client_images = ClientImages(settings.max_client_images)
    app.state.exporter = Exporter(settings.data_dir / "scratch")
    for router in ROUTERS:
        app.include_router(router)
    app.add_api_route("/", _to_docs, include_in_schema=False)
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limit_of=_body_limit(settings))
    app.add_middleware(RequestContext, metrics=app.state.metrics, new_id=deps.new_id)
    app.openapi = openapi.schema_of(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


async def _to_docs() -> RedirectResponse:
    """Who opens the bare address in a browser finds the description of the API."""
    return RedirectResponse("docs")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for resource in app.state.services.resources:
            await stack.enter_async_context(resource)
        stack.callback(app.state.exporter.close)
        yield


def _body_limit(settings: Settings) -> Callable[[Scope], int]:
    def limit_of(scope: Scope) -> int:
        upload = UPLOAD_PATH.fullmatch(scope["path"]) is not None
        return settings.max_archive_bytes if upload else settings.max_request_bytes

    return limit_of

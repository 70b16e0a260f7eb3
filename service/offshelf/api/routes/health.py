"""Whether the service lives, whether it is ready, and its metrics."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
import logging
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from offshelf.api.errors import problem
from offshelf.api.openapi import problems
from offshelf.api.services import MetricsOf, Services, ServicesOf, request_id_of
from offshelf.errors import DependencyError, ErrorInfo, NoWorker, OffshelfError
from offshelf.schemas.backbones import WorkerBody
from offshelf.schemas.health import Health

LOG = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Whether the process lives", operation_id="livez")
async def livez() -> dict[str, str]:
    """Answer, and touch nothing else."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Whether requests can be served",
    operation_id="readyz",
    response_model=Health,
    responses=problems(503),
)
def readyz(request: Request, services: ServicesOf) -> Response | Health:
    """Redis answers, and a worker's canary forward passes gave what they should."""
    return _health(request, services)


@router.get(
    "/health",
    summary="The same as /readyz",
    operation_id="health",
    response_model=Health,
    responses=problems(503),
)
def health(request: Request, services: ServicesOf) -> Response | Health:
    """Redis answers, and a worker's canary forward passes gave what they should."""
    return _health(request, services)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"description": "Exposition text.", "content": {"text/plain": {}}}},
)
def metrics(services: ServicesOf, own: MetricsOf) -> Response:
    """The metrics of this process, and those of every live worker under the label `worker`."""
    workers: list[WorkerBody] = []
    try:
        workers = services.directory.workers()
        own.see(workers, services.directory.queued_images())
    except DependencyError:
        own.redis_up.set(0)
    return Response(own.page(workers), media_type=CONTENT_TYPE_LATEST)


def _health(request: Request, services: Services) -> Response | Health:
    workers: list[WorkerBody] = []
    try:
        services.directory.ping()
        workers = services.directory.workers()
        queued = services.directory.queued_images()
    except DependencyError as error:
        LOG.warning("request %s: not ready: %s", request_id_of(request), error)
        return _not_ready(request, error, workers)
    if not any(worker.ready for worker in workers):
        reason = NoWorker(_why(workers))
        return _not_ready(request, reason, workers)
    return Health(status="ready", workers=_told(workers), queued_images=queued)


def _why(workers: list[WorkerBody]) -> str:
    if not workers:
        return "no worker is alive"
    return "no worker is ready: " + "; ".join(f"{w.id}: {w.detail or 'starting'}" for w in workers)


def _not_ready(request: Request, error: OffshelfError, workers: list[WorkerBody]) -> Response:
    info = ErrorInfo.of(error)
    body = Health(status="not_ready", reasons=[info.message], workers=_told(workers))
    extra = body.model_dump(mode="json", include={"reasons", "workers"})
    return problem(info, request_id_of(request), **extra)


def _told(workers: list[WorkerBody]) -> list[dict[str, Any]]:
    shown = {"id", "host", "engine", "device", "ready", "detail"}
    return [worker.model_dump(include=shown) for worker in workers]

"""`GET /v1/selftest`: whether the workers give what they should."""

from __future__ import annotations

from typing import Annotated

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from fastapi import APIRouter, Query

from offshelf.api.openapi import problems
from offshelf.api.services import ServicesOf, SettingsOf
from offshelf.errors import DeadlineExceeded, ErrorInfo, NoWorker
from offshelf.schemas.backbones import WorkerBody
from offshelf.schemas.base import ErrorBody, Name
from offshelf.schemas.features import WEIGHTS_PATTERN
from offshelf.schemas.health import SelfTestAnswer, SelfTestReport

router = APIRouter(prefix="/v1", tags=["health"])


@router.get(
    "/selftest",
    summary="Try a backbone on every worker",
    operation_id="selftest",
    responses=problems(422, 503),
)
def selftest(
    services: ServicesOf,
    settings: SettingsOf,
    backbone: Annotated[Name | None, Query(description="Left out: each worker's default.")] = None,
    weights: Annotated[
        str | None, Query(pattern=WEIGHTS_PATTERN, description="As for features.")
    ] = None,
) -> SelfTestAnswer:
    """Run known inputs through a backbone on every live worker, and compare.

    With features on record, with itself, between batch sizes, before and after the ReLU, between
    device and CPU, and between resizers; each check tells its figure and its tolerance. `passed`
    is false when any check failed, or a worker did not answer.
    """
    workers = services.directory.workers()
    if not workers:
        raise NoWorker("no worker is alive, so there is nothing to test")
    found = services.selftests.ask(
        [worker.id for worker in workers], backbone, weights, settings.request_deadline_s
    )
    reports = [found.get(one.id) or _silent(one, backbone) for one in workers]
    return SelfTestAnswer(passed=all(one.passed for one in reports), reports=reports)


def _silent(worker: WorkerBody, backbone: str | None) -> SelfTestReport:
    """The report of a worker that did not answer."""
    error = DeadlineExceeded("the worker did not answer in time")
    return SelfTestReport(
        worker=worker.id,
        host=worker.host,
        device=worker.device,
        backbone=backbone or worker.default_backbone,
        passed=False,
        error=ErrorBody.of(ErrorInfo.of(error)),
    )

"""`/v1/jobs`: looking at queued work, following it and ending it."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
# ruff: noqa: TC003 - FastAPI reads the annotations of routes at run time
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Annotated, Any, TypeAlias, cast

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from offshelf.api.openapi import problems
from offshelf.api.pages import After, Id, Limit, check_id
from offshelf.api.services import OWNER, ClosingOf, ServicesOf
from offshelf.api.submitting import MAX_KEY_CHARS, job_body
from offshelf.errors import OffshelfError
from offshelf.queue.event_ids import check_event_id
from offshelf.schemas.base import Page
from offshelf.schemas.jobs import JobBody

LOG = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Event: TypeAlias = tuple[str, dict[str, Any]]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_CHARS,
        description="Chosen by you: a repeat with the same key and body gives the first job.",
    ),
]
LastEventId = Annotated[
    str,
    Header(alias="Last-Event-ID", description="Go on after this event; else from the first."),
]


@router.get("", summary="List jobs", operation_id="list_jobs", responses=problems(422, 503))
def list_jobs(services: ServicesOf, after: After = None, limit: Limit = 50) -> Page[JobBody]:
    """Jobs, newest first."""
    jobs, more = services.jobs.list(OWNER, after, limit)
    last = jobs[-1].id if more and jobs else None
    return Page(items=[job_body(job) for job in jobs], has_more=more, after=last)


@router.get("/{job_id}", summary="Show a job", operation_id="get_job", responses=problems(404, 503))
def get_job(job_id: Id, services: ServicesOf) -> JobBody:
    """A job: its state, counts, and result or error."""
    return job_body(services.jobs.get(check_id("job", job_id), OWNER))


@router.delete(
    "/{job_id}",
    status_code=202,
    summary="Cancel a job",
    operation_id="cancel_job",
    responses=problems(404, 409, 503),
)
def cancel_job(job_id: Id, services: ServicesOf) -> JobBody:
    """Ask for the end: a queued job is cancelled at once, a running one as soon as it can stop."""
    return job_body(services.jobs.cancel(check_id("job", job_id), OWNER))


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    operation_id="follow_job",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}},
        **problems(404, 422, 429, 503),
    },
)
async def follow_job(
    job_id: Id, services: ServicesOf, closing: ClosingOf, last_event_id: LastEventId = ""
) -> StreamingResponse:
    """Every event of the job as it comes, to the last; the stream then ends.

    It ends earlier, with the comment `interrupted`, where the service stops: follow it again.
    """
    after = check_event_id(last_event_id or "0")
    await run_in_threadpool(services.jobs.get, check_id("job", job_id), OWNER)
    events = cast("Any", services.events.follow(job_id, after))
    # While the answer has no status yet, an error can still be one.
    first = await anext(events, None)
    return StreamingResponse(
        _stream(job_id, first, events, closing),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _stream(
    job_id: str, first: Event | None, events: AsyncGenerator[Event], closing: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Events as text; where Redis goes away the stream ends, and the client comes back later."""
    try:
        async with aclosing(events):
            if first:
                yield _event(*first)
            async for event in events:
                yield _event(*event)
                if closing():
                    yield b": interrupted\n\n"
                    return
    except OffshelfError as error:
        LOG.warning("the events of job %s end early: %s", job_id, error)
        yield b": interrupted\n\n"


def _event(event_id: str, data: dict[str, Any]) -> bytes:
    """An event as it stands in the stream; without an id it only breaks the silence."""
    if not event_id:
        return b": keep-alive\n\n"
    return b"id: %s\ndata: %s\n\n" % (event_id.encode(), to_json(data))

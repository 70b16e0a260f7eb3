"""`/v1/heads`, what is beside training and predicting: comparing, tags and exports."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from offshelf.api.downloads import answer_file
from offshelf.api.limits import admit_job
from offshelf.api.openapi import problems
from offshelf.api.pages import HeadName
from offshelf.api.routes.jobs import IdempotencyKey
from offshelf.api.services import OWNER, ServicesOf, SettingsOf
from offshelf.api.submitting import job_body, job_path, submit
from offshelf.errors import InvalidParameter, UnknownName
from offshelf.exports.virtual import Stored, VirtualFile
from offshelf.heads import listing, model, names, tags
from offshelf.heads.comparing import compared
from offshelf.heads.exports.interface import EXPORT, FORMATS, File, Format, repr_digest
from offshelf.heads.significance import significance
from offshelf.schemas.heads import Head
from offshelf.schemas.jobs import JobBody
from offshelf.schemas.registry import (
    ExportFormat,
    ExportJob,
    ExportRecord,
    ExportRequest,
    HeadComparison,
    Naming,
)
from offshelf.store import layout
from offshelf.store.interface import Store

router = APIRouter(prefix="/v1/heads", tags=["heads"])

TagName = Annotated[str, Path(description="A word, for example `prod`.")]
FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file; `Repr-Digest` and `ETag` have its sha256.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The range of it that was asked for."},
    304: {"description": "It is what If-None-Match names."},
}


@router.get(
    "/compare",
    summary="Compare two heads",
    operation_id="compare_heads",
    responses=problems(404, 422, 503),
)
def compare_heads(
    services: ServicesOf,
    head: Annotated[
        list[str], Query(description="The heads, twice: each an id, name, name:3 or name:tag.")
    ],
) -> HeadComparison:
    """What differs in features, training and data, and the figures of both.

    `fair` says whether their test figures may be set against each other; `significance` is
    McNemar's test, where the test scores of both are on record.
    """
    if len(head) != 2:
        raise InvalidParameter(f"compare takes two heads, as head=A&head=B, not {len(head)}")
    a, b = (names.resolve(services.store, OWNER, one) for one in head)
    chance = significance(services.store, a, b)
    return compared(a, b).model_copy(update={"significance": chance})


@router.put(
    "/{head}/name",
    summary="Name a head",
    operation_id="name_head",
    responses=problems(404, 422, 503),
)
def put_name(head: HeadName, wanted: Naming, services: ServicesOf) -> Head:
    """Make a head that was trained without a name the next version of one; it keeps that name."""
    card = names.resolve(services.store, OWNER, head)
    return listing.tagged(services.store, names.give(services.store, card, wanted.name))


@router.put(
    "/{head}/tags/{tag}",
    summary="Tag a head",
    operation_id="tag_head",
    responses=problems(404, 422, 503),
)
def put_tag(head: HeadName, tag: TagName, services: ServicesOf) -> Head:
    """Let a tag stand at a head; it leaves the head of the same name at which it stood."""
    card = names.resolve(services.store, OWNER, head)
    tags.put(services.store, card, tag)
    return listing.tagged(services.store, card)


@router.delete(
    "/{head}/tags/{tag}",
    status_code=204,
    summary="Untag a head",
    operation_id="untag_head",
    responses=problems(404, 422, 503),
)
def delete_tag(head: HeadName, tag: TagName, services: ServicesOf) -> None:
    """Take a tag from a head."""
    tags.remove(services.store, names.resolve(services.store, OWNER, head), tag)


@router.post(
    "/{head}/export",
    status_code=202,
    summary="Have a head exported",
    operation_id="export_head",
    responses=problems(404, 409, 422, 429, 503),
)
def post_export(
    head: HeadName,
    wanted: ExportRequest,
    response: Response,
    services: ServicesOf,
    settings: SettingsOf,
    key: IdempotencyKey = None,
) -> JobBody:
    """Queue a job that makes a file which takes a network to make; `GET` the same path after it."""
    card = names.resolve(services.store, OWNER, head)
    check = FORMATS.get(wanted.format).check
    if check is not None:
        check(card)
    admit_job(services, settings, 0)
    asked = model.params_of(card)
    about = ExportJob(
        head=card.id,
        format=wanted.format,
        backbone=asked.backbone or "",
        weights=asked.weights,
    )
    job = submit(services, EXPORT, about.model_dump(mode="json"), key)
    response.headers["Location"] = job_path(job)
    return job_body(job)


@router.head("/{head}/export", include_in_schema=False)
@router.get(
    "/{head}/export",
    summary="Download a head",
    operation_id="download_head",
    response_class=Response,
    responses={**FILE, **problems(404, 406, 416, 422, 503)},
)
async def get_export(
    head: HeadName,
    request: Request,
    services: ServicesOf,
    format: Annotated[ExportFormat, Query()] = "safetensors",  # noqa: A002 - its name on the wire
) -> Response:
    """A head as a file; Range, If-Range and If-None-Match are understood.

    `onnx-full` has to be made first: `POST` to the same path.
    """
    kind = FORMATS.get(format)
    made = await run_in_threadpool(_made, services.store, kind, head)
    return await answer_file(
        request, made.file, made.name, {"Repr-Digest": repr_digest(made.file.etag)}
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """A file whose ETag is its sha256, and what to call it."""

    file: VirtualFile
    name: str


def _made(store: Store, kind: Format, head: str) -> _Made:
    card = names.resolve(store, OWNER, head)
    part: bytes | Stored
    if kind.write is None:
        record = _record(store, kind, card)
        sha256 = record.sha256
        part = Stored(layout.head_export_file(card.owner, card.id, sha256), 0, record.size)
    else:
        made = File.of(kind.write(model.load_kept(store, OWNER, card.id)))
        sha256, part = made.sha256, made.content
    return _Made(VirtualFile(store, [part], sha256, kind.media_type), kind.filename(card))


def _record(store: Store, kind: Format, card: Head) -> ExportRecord:
    """What is told of a file that a worker made before."""
    try:
        record = store.get(layout.head_export(card.owner, card.id, kind.name))
    except UnknownName:
        if kind.check is not None:
            kind.check(card)
        raise UnknownName(
            f"head {card.id} has not been exported as {kind.name}: POST "
            f'{{"format": "{kind.name}"}} to this path first, and wait for the job'
        ) from None
    return ExportRecord.model_validate_json(record)

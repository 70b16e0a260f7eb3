"""`/v1/heads`, what is beside training and predicting: comparing, tags and exports."""

from __future__ import annotations

# ruff: noqa: TC001, TC003 - FastAPI reads the annotations of routes at run time
import json
from collections.abc import Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from offshelf.api.limits import admit_job
from offshelf.api.openapi import problems
from offshelf.api.pages import HeadName
from offshelf.api.routes.jobs import IdempotencyKey
from offshelf.api.services import OWNER, ServicesOf, SettingsOf
from offshelf.api.submitting import job_body, job_path, submit
from offshelf.errors import InvalidParameter, UnknownName
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
)
from offshelf.store import layout
from offshelf.store.interface import Store

router = APIRouter(prefix="/v1/heads", tags=["heads"])

CHUNK_BYTES: Final = 4 << 20

TagName = Annotated[str, Path(description="A word, for example `prod`.")]
FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file; `Repr-Digest` and `ETag` have its sha256.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
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


@router.get(
    "/{head}/export",
    summary="Download a head",
    operation_id="download_head",
    response_class=StreamingResponse,
    responses={**FILE, **problems(404, 406, 422, 503)},
)
def get_export(
    head: HeadName,
    services: ServicesOf,
    format: Annotated[ExportFormat, Query()] = "safetensors",  # noqa: A002 - its name on the wire
) -> Response:
    """A head as a file. `onnx-full` has to be made first: `POST` to the same path."""
    card = names.resolve(services.store, OWNER, head)
    kind = FORMATS.get(format)
    if kind.write is None:
        return _kept(services.store, kind, card)
    made = File.of(kind.write(model.load_kept(services.store, OWNER, card.id)))
    headers = _headers(kind, card, len(made.content), made.sha256)
    return Response(made.content, media_type=kind.media_type, headers=headers)


def _kept(store: Store, kind: Format, card: Head) -> Response:
    """A file that a worker made before."""
    try:
        record = store.get(layout.head_export(card.owner, card.id, kind.name))
    except UnknownName:
        if kind.check is not None:
            kind.check(card)
        raise UnknownName(
            f"head {card.id} has not been exported as {kind.name}: POST "
            f'{{"format": "{kind.name}"}} to this path first, and wait for the job'
        ) from None
    made = ExportRecord.model_validate(json.loads(record))
    return StreamingResponse(
        _chunks(store, layout.head_export_file(card.owner, card.id, made.sha256), made.size),
        media_type=kind.media_type,
        headers=_headers(kind, card, made.size, made.sha256),
    )


def _headers(kind: Format, card: Head, size: int, sha256: str) -> dict[str, str]:
    return {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{kind.filename(card)}"',
        "ETag": f'"{sha256}"',
        "Repr-Digest": repr_digest(sha256),
    }


def _chunks(store: Store, key: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, CHUNK_BYTES):
        yield store.get_range(key, start, min(CHUNK_BYTES, size - start))

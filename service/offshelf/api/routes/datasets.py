"""`/v1/datasets`: uploaded image folders, and data sets that a protocol reads."""

from __future__ import annotations

# ruff: noqa: TC003 - FastAPI reads the annotations of routes at run time
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, BinaryIO, Final, cast

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from offshelf.api.images import media_type, read_form
from offshelf.api.openapi import archive_body, problems
from offshelf.api.pages import After, Id, Limit, check_id, page_of
from offshelf.api.services import OWNER, ServicesOf, SettingsOf
from offshelf.datasets import records
from offshelf.datasets.image_folder import import_archive
from offshelf.datasets.interface import ArchiveLimits
from offshelf.datasets.protocol_import import import_protocol
from offshelf.datasets.protocols.interface import PROTOCOLS
from offshelf.errors import InvalidParameter, UnsupportedMedia
from offshelf.schemas.base import Page
from offshelf.schemas.datasets import Dataset, DatasetBody

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

ARCHIVES: Final = frozenset(
    {
        "application/gzip",
        "application/octet-stream",
        "application/x-bzip2",
        "application/x-gzip",
        "application/x-tar",
        "application/x-xz",
        "application/x-zip-compressed",
        "application/zip",
    }
)
MAX_NAME_CHARS: Final = 200
TEXTS: Final = ("name", "protocol")

Name = Annotated[str | None, Query(max_length=MAX_NAME_CHARS, description="A name for people.")]
ByProtocol = Annotated[
    str | None,
    Query(
        max_length=MAX_NAME_CHARS,
        description="By which protocol the archive is read, e.g. `voc2007`; left out: an image "
        "folder. A field of the form as well.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Sent:
    """An uploaded archive, on disk and at its start, and the texts that came with it."""

    file: BinaryIO
    file_name: str = ""
    name: str | None = None
    protocol: str | None = None


@router.post(
    "",
    status_code=201,
    summary="Upload a dataset",
    operation_id="create_dataset",
    responses={
        200: {"description": "These images were uploaded before.", "model": DatasetBody},
        **problems(413, 415, 422, 503),
    },
    openapi_extra={"requestBody": archive_body()},
)
async def post_dataset(
    request: Request,
    response: Response,
    services: ServicesOf,
    settings: SettingsOf,
    name: Name = None,
    protocol: ByProtocol = None,
) -> DatasetBody:
    """Store the images of a zip or tar of `<class>/<image>`, perhaps in one folder more.

    The archive is a multipart file named `archive` or the whole body. Files that are no images
    by their name are listed in `skipped`. The id is derived from the content: the same images in
    the same classes are the same dataset (200), under the name of the first upload.

    With a `protocol` the archive has the data set's official layout instead, and its lists say
    which images there are, what they show and how they are split.
    """
    limits = ArchiveLimits(
        settings.max_archive_bytes, settings.max_archive_files, settings.max_image_bytes
    )
    async with _archive(request) as sent:
        dataset, new = await run_in_threadpool(
            _reader(protocol or sent.protocol),
            services.store,
            sent.file,
            owner=OWNER,
            name=name or sent.name or sent.file_name,
            limits=limits,
            now_s=services.now_s(),
        )
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return records.body(dataset)


@router.get("", summary="List datasets", operation_id="list_datasets", responses=problems(422, 503))
def list_datasets(
    services: ServicesOf, after: After = None, limit: Limit = 50
) -> Page[DatasetBody]:
    """All datasets, by id."""
    names, more = page_of(records.ids(services.store, OWNER), after, limit)
    items = [records.load_body(services.store, OWNER, name) for name in names]
    return Page(items=items, has_more=more, after=names[-1] if more else None)


@router.get(
    "/{dataset_id}",
    summary="Show a dataset",
    operation_id="get_dataset",
    responses=problems(404, 503),
)
def get_dataset(dataset_id: Id, services: ServicesOf) -> DatasetBody:
    """A dataset: its classes and how many images each has."""
    return records.load_body(services.store, OWNER, check_id("dataset", dataset_id))


def _reader(protocol: str | None) -> Callable[..., tuple[Dataset, bool]]:
    """What makes a dataset of an archive; UnknownName for a protocol that there is not."""
    if not protocol:
        return import_archive
    return partial(import_protocol, protocol=PROTOCOLS.get(protocol))


@asynccontextmanager
async def _archive(request: Request) -> AsyncIterator[_Sent]:
    media = media_type(request)
    if media == "multipart/form-data":
        async with _form_file(request) as found:
            yield found
    elif media in ARCHIVES:
        with tempfile.TemporaryFile() as file:
            await _spool(request, cast("BinaryIO", file))
            yield _Sent(cast("BinaryIO", file))
    else:
        raise UnsupportedMedia(
            f"cannot read a body of type {media or '(none given)'!r}; send the archive as the "
            "multipart file 'archive', or as application/zip, application/x-tar, application/gzip"
        )


@asynccontextmanager
async def _form_file(request: Request) -> AsyncIterator[_Sent]:
    form = await read_form(request, max_files=1)
    try:
        unknown = sorted(set(form) - {"archive", *TEXTS})
        if unknown:
            raise InvalidParameter(
                f"unknown form field {unknown[0]!r}; send 'archive', 'name' and 'protocol'"
            )
        file = form.get("archive")
        if not isinstance(file, UploadFile):
            raise InvalidParameter("there is no file named 'archive' in the form")
        texts = {field: _text(form, field) for field in TEXTS}
        yield _Sent(file.file, (file.filename or "")[:MAX_NAME_CHARS], **texts)
    finally:
        await form.close()


def _text(form: FormData, field: str) -> str | None:
    value = form.get(field)
    if value is not None and not (isinstance(value, str) and len(value) <= MAX_NAME_CHARS):
        raise InvalidParameter(f"{field!r} is a text of at most {MAX_NAME_CHARS} characters")
    return value


async def _spool(request: Request, file: BinaryIO) -> None:
    """Write the body to disk; chunks are small, so that a write holds nobody up for long."""
    async for chunk in request.stream():
        await run_in_threadpool(file.write, chunk)
    file.seek(0)

"""What a request brings to make a dataset of: an archive, or the name of a source."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from offshelf.api.images import media_type, read_form
from offshelf.errors import InvalidParameter, TooLarge, UnsupportedMedia
from offshelf.schemas.datasets import MAX_NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.datastructures import FormData
    from starlette.requests import Request

JSON: Final = "application/json"
MAX_JSON_BYTES: Final = 64 << 10
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
TEXTS: Final = ("name", "protocol", "layout")

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Sent:
    """An uploaded archive, on disk and at its start, and the texts that came with it."""

    file: BinaryIO
    file_name: str = ""
    name: str | None = None
    protocol: str | None = None
    layout: str | None = None


def names_source(request: Request) -> bool:
    """Whether the body is JSON, and so names a source."""
    return media_type(request) == JSON


async def read_source(request: Request, model: type[T]) -> T:
    """The JSON body, by its model."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise TooLarge(f"the JSON body is over the limit of {MAX_JSON_BYTES} bytes")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        ) from error


@asynccontextmanager
async def read_archive(request: Request) -> AsyncIterator[Sent]:
    """The archive of a form, or that is the whole body; on disk, never whole in memory."""
    media = media_type(request)
    if media == "multipart/form-data":
        async with _form_file(request) as found:
            yield found
    elif media in ARCHIVES:
        with tempfile.TemporaryFile() as file:
            await _spool(request, cast("BinaryIO", file))
            yield Sent(cast("BinaryIO", file))
    else:
        raise UnsupportedMedia(
            f"cannot read a body of type {media or '(none given)'!r}; send the archive as the "
            "multipart file 'archive', or as application/zip, application/x-tar, "
            "application/gzip; or name a source as application/json"
        )


@asynccontextmanager
async def _form_file(request: Request) -> AsyncIterator[Sent]:
    form = await read_form(request, max_files=1)
    try:
        unknown = sorted(set(form) - {"archive", *TEXTS})
        if unknown:
            raise InvalidParameter(
                f"unknown form field {unknown[0]!r}; send 'archive', 'name', 'protocol', 'layout'"
            )
        file = form.get("archive")
        if not isinstance(file, UploadFile):
            raise InvalidParameter("there is no file named 'archive' in the form")
        texts = {field: _text(form, field) for field in TEXTS}
        yield Sent(file.file, (file.filename or "")[:MAX_NAME_CHARS], **texts)
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

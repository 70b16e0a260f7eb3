"""Images and parameters of a request, whichever of the three kinds of body brings them.

multipart/form-data: files named `images`; parameters as fields, or as JSON in a field `params`.
application/json: `images` as base64 or {name, data}; parameters beside it.
image/* or application/octet-stream: one image. Parameters may always stand in the query.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from offshelf.errors import (
    ErrorInfo,
    InvalidImage,
    InvalidParameter,
    OffshelfError,
    TooLarge,
    UnsupportedMedia,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.datastructures import FormData
    from starlette.requests import Request

FILE_FIELD: Final = "images"
MAX_FIELDS: Final = 64
MAX_FIELD_BYTES: Final = 1 << 20  # ten thousand boxes as text
MAX_NAME_CHARS: Final = 1024

# JSON above this is read in a thread, so that the event loop goes on serving others.
INLINE_JSON_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How many images a request may have, and how many bytes each."""

    images: int
    image_bytes: int


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a request: its bytes, or the error that keeps it from being sent."""

    index: int
    name: str | None
    data: bytes
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request brought: images in order, and parameters that nobody checked yet."""

    images: tuple[Image, ...]
    params: dict[str, Any]


async def read_upload(request: Request, limits: UploadLimits) -> Upload:
    """Read the body. What is wrong with one image becomes that image's own error.

    Raises UnsupportedMedia for another kind of body, InvalidParameter for a malformed or empty
    one and TooLarge for too many images.
    """
    media = media_type(request)
    params = params_of(request.query_params.multi_items())
    if media == "multipart/form-data":
        images, more = await _from_form(request, limits)
    elif media == "application/json":
        images, more = await _from_json(request, limits)
    elif media.startswith("image/") or media == "application/octet-stream":
        images, more = [await _from_body(request, params.pop("name", None), limits)], {}
    else:
        raise UnsupportedMedia(
            f"cannot read a body of type {media or '(none given)'!r}; send multipart/form-data, "
            "application/json, image/* or application/octet-stream"
        )
    if not images:
        raise InvalidParameter("the request has no images")
    return Upload(tuple(images), params | more)


def media_type(request: Request) -> str:
    """The media type of the body, in lower case, without parameters."""
    media, _ = parse_options_header(request.headers.get("content-type", ""))
    return media.decode("latin-1")


def params_of(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters from a query or a form: `taps` repeated or comma-separated, others once."""
    params: dict[str, Any] = {}
    for name, value in pairs:
        if name == "taps":
            params.setdefault("taps", []).extend(tap.strip() for tap in value.split(","))
        elif name in params:
            raise InvalidParameter(f"{name!r} is given twice")
        else:
            params[name] = value
    return params


async def read_form(request: Request, max_files: int) -> FormData:
    """A multipart body, its files spooled to disk above 1 MiB; the caller closes it."""
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=max_files,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        if "many files" in error.message:
            raise TooLarge(f"the request has more than {max_files} files") from error
        raise InvalidParameter(f"the multipart body cannot be read: {error.message}") from error


async def _from_form(request: Request, limits: UploadLimits) -> tuple[list[Image], dict[str, Any]]:
    form = await read_form(request, limits.images)
    try:
        images: list[Image] = []
        fields: list[tuple[str, str]] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                images.append(await _from_file(len(images), name, value, limits))
            else:
                fields.append((name, value))
    finally:
        await form.close()
    return images, _form_params(fields)


async def _from_file(index: int, field: str, file: UploadFile, limits: UploadLimits) -> Image:
    if field != FILE_FIELD:
        raise InvalidParameter(f"a file is named {field!r}; images go in files named 'images'")
    size = file.size or 0
    if error := _size_error(size, limits):
        return Image(index, file.filename, b"", error)
    return Image(index, file.filename, await file.read())


def _form_params(fields: list[tuple[str, str]]) -> dict[str, Any]:
    if any(name == FILE_FIELD for name, _ in fields):
        raise InvalidParameter("'images' is a plain field; send each image as a file")
    texts = [value for name, value in fields if name == "params"]
    params = params_of((name, value) for name, value in fields if name != "params")
    for text in texts:
        params |= _json_object(text.encode(), "the field 'params'")
    return params


async def _from_json(request: Request, limits: UploadLimits) -> tuple[list[Image], dict[str, Any]]:
    body = await request.body()
    if len(body) > INLINE_JSON_BYTES:
        return await run_in_threadpool(_parse_json, body, limits)
    return _parse_json(body, limits)


def _parse_json(body: bytes, limits: UploadLimits) -> tuple[list[Image], dict[str, Any]]:
    params = _json_object(body, "the body")
    listed = params.pop("images", None)
    if not isinstance(listed, list):
        raise InvalidParameter("'images' must be a list of base64 strings or {name, data}")
    if len(listed) > limits.images:
        raise TooLarge(f"the request has {len(listed)} images; the limit is {limits.images}")
    return [_from_entry(i, entry, limits) for i, entry in enumerate(listed)], params


def _from_entry(index: int, entry: object, limits: UploadLimits) -> Image:
    name, text = _name_and_text(index, entry)
    compact = "".join(text.split())
    if len(compact) > (limits.image_bytes + 2) // 3 * 4:
        return Image(index, name, b"", ErrorInfo.of(_over(limits)))
    try:
        data = base64.b64decode(compact, validate=True)
    except ValueError as error:
        invalid = InvalidImage(f"the image is not base64: {error}")
        return Image(index, name, b"", ErrorInfo.of(invalid))
    return Image(index, name, data, _size_error(len(data), limits))


def _name_and_text(index: int, entry: object) -> tuple[str | None, str]:
    if isinstance(entry, str):
        return None, entry
    if isinstance(entry, dict) and isinstance(entry.get("data"), str):
        name = entry.get("name")
        known = set(entry) <= {"data", "name"}
        if known and (name is None or (isinstance(name, str) and len(name) <= MAX_NAME_CHARS)):
            return name, entry["data"]
    message = "must be a base64 string or an object of `data` (base64) and, if you like, `name`"
    raise RequestValidationError([{"loc": ("body", "images", index), "msg": message}])


async def _from_body(request: Request, name: str | None, limits: UploadLimits) -> Image:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limits.image_bytes:
            raise _over(limits)
    return Image(0, name, bytes(data), _size_error(len(data), limits))


def _size_error(size: int, limits: UploadLimits) -> ErrorInfo | None:
    if size > limits.image_bytes:
        return ErrorInfo.of(_over(limits))
    return ErrorInfo.of(InvalidImage("the image is empty (0 bytes)")) if size <= 0 else None


def _over(limits: UploadLimits) -> OffshelfError:
    return TooLarge(f"the image is over the limit of {limits.image_bytes} bytes")


def _json_object(text: bytes, what: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"{what} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidParameter(f"{what} must be a JSON object")
    return data

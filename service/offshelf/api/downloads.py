"""Answers with a file, whole or a range of it, as it is read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from offshelf.api import errors
from offshelf.api.ranges import matches, still_valid, wanted_range
from offshelf.api.services import request_id_of
from offshelf.errors import ErrorInfo, RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from fastapi import Request

    from offshelf.exports.virtual import VirtualFile


async def answer_file(
    request: Request, file: VirtualFile, name: str, about: Mapping[str, str]
) -> Response:
    """200, 206, 304 or 416, with a strong ETag; of a HEAD request the headers alone.

    The first chunk is read before anything is sent, so that a file that is not there is an
    error and no broken line.
    """
    etag = f'"{file.etag}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{name}"',
        **about,
    }
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    try:
        span = _span(request, file, etag)
    except RangeNotSatisfiable as error:
        told = {**headers, "Content-Range": f"bytes */{file.size}"}
        del told["Content-Disposition"]
        return errors.problem(ErrorInfo.of(error), request_id_of(request), told)
    start, stop = span or (0, file.size)
    headers["Content-Length"] = str(stop - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    status = 206 if span else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    chunks = file.read(start, stop)
    first = await run_in_threadpool(next, chunks, b"")
    return StreamingResponse(_ahead(first, chunks), status, headers, media_type=file.media_type)


async def _ahead(chunk: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks; while one is sent the next is read."""
    while chunk:
        coming = asyncio.create_task(run_in_threadpool(next, chunks, b""))
        try:
            yield chunk
            chunk = await coming
        finally:
            coming.cancel()


def _span(request: Request, file: VirtualFile, etag: str) -> tuple[int, int] | None:
    """The range to send; HEAD has none (RFC 9110, 14.2: Range is for GET)."""
    valid = still_valid(request.headers.get("if-range"), etag)
    if request.method != "GET" or not valid:
        return None
    return wanted_range(request.headers.get("range"), file.size)

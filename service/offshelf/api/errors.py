"""Errors on the wire: every one leaves as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from offshelf.api.services import request_id_of
from offshelf.errors import CapacityError, ErrorInfo, OffshelfError
from offshelf.schemas.base import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request
    from pydantic import ValidationError

    from offshelf.schemas.features import Item

LOG = logging.getLogger(__name__)

PROBLEM: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1.0

# The client has gone and reads no answer; the number is for the log and the metrics.
CLIENT_GONE: Final = 499

# The codes, of the tree in offshelf.errors, for what the router and the body limit say.
ROUTER_CODES: Final = {404: "unknown_name", 405: "method_not_allowed", 413: "too_large"}


class ClientGone(Exception):
    """The client closed the connection before its answer was ready."""


class NothingKept(Exception):
    """Every image of a request failed: the request fails as they did, and lists them."""

    def __init__(self, errors: Sequence[ErrorInfo], items: Sequence[Item]) -> None:
        super().__init__(f"all {len(items)} images failed")
        self.info = _common(errors)
        self.items = items


def _common(errors: Sequence[ErrorInfo]) -> ErrorInfo:
    """One error for many: what they share, and a plain 422 where they differ."""
    first, retryable = errors[0], all(error.retryable for error in errors)
    if len({error.message for error in errors}) == 1:
        message = first.message
    else:
        message = f"all {len(errors)} images failed, the first one: {first.message}"
    if len({(error.code, error.status) for error in errors}) > 1:
        return ErrorInfo("invalid_request", message, 422, retryable)
    return ErrorInfo(first.code, message, first.status, retryable)


def problem(
    info: ErrorInfo,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """The response that tells an error; `extra` fields stand beside the standard ones."""
    held = dict(headers or {})
    if info.retryable and info.status in (429, 503):
        held.setdefault("Retry-After", str(math.ceil(RETRY_AFTER_S)))
    body = Problem(
        title=_phrase(info.status),
        status=info.status,
        detail=info.message,
        code=info.code,
        retryable=info.retryable,
        request_id=request_id,
        **extra,
    )
    return JSONResponse(body.model_dump(mode="json"), info.status, held, media_type=PROBLEM)


def install(app: FastAPI) -> None:
    """Register the handlers; what none of them knows is the middleware's."""
    app.add_exception_handler(OffshelfError, _on_offshelf_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(NothingKept, _on_nothing_kept)
    app.add_exception_handler(ClientGone, _on_client_gone)


def invalid(error: ValidationError) -> RequestValidationError:
    """The error of a body or parameters that a route validated itself."""
    return RequestValidationError(error.errors(include_url=False))


def internal_error(request_id: str) -> JSONResponse:
    """What a client may know of an exception that nobody expected."""
    message = f"the service failed; its log has the details under request id {request_id}"
    return problem(ErrorInfo("internal_error", message, 500, retryable=False), request_id)


async def _on_offshelf_error(request: Request, error: Exception) -> Response:
    info = ErrorInfo.of(error)
    request_id = request_id_of(request)
    if info.status >= 500:
        # What is away is no fault of the code: a line is enough, without the way to it.
        fault = error if info.status == 500 else None
        LOG.warning("request %s: %s: %s", request_id, info.code, error, exc_info=fault)
    headers = {}
    if isinstance(error, CapacityError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return problem(info, request_id, headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it alone
    wrong = [{"field": _field(e["loc"]), "message": str(e["msg"])} for e in error.errors()]
    detail = "; ".join(f"{w['field']}: {w['message']}" for w in wrong[:5])
    info = ErrorInfo("invalid_parameter", detail, 422, retryable=False)
    return problem(info, request_id_of(request), errors=wrong)


def _field(loc: Sequence[int | str]) -> str:
    """`taps.0` of ("body", "taps", 0): where the value stood matters less than its name."""
    parts = loc[1:] if loc and loc[0] in ("body", "query", "path", "header") else loc
    return ".".join(str(part) for part in parts) or "body"


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it alone
    code = ROUTER_CODES.get(error.status_code, "invalid_request")
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}"
    if error.status_code == 405:
        detail = f"{request.method} is not allowed at {request.url.path}"
    info = ErrorInfo(code, detail, error.status_code, retryable=False)
    return problem(info, request_id_of(request), error.headers)


async def _on_nothing_kept(request: Request, error: Exception) -> Response:
    assert isinstance(error, NothingKept)  # noqa: S101  # registered for it alone
    items = [item.model_dump(mode="json") for item in error.items]
    return problem(error.info, request_id_of(request), items=items)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"

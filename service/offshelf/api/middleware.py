"""What surrounds every request, as plain ASGI: its id, its time, its log line and its size."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from offshelf.api import errors
from offshelf.errors import ErrorInfo, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from offshelf.api.metrics import ApiMetrics

LOG = logging.getLogger(__name__)
ACCESS = logging.getLogger("offshelf.access")

REQUEST_ID: Final = "X-Request-Id"
# Ids go into logs and headers as they are.
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """Gives each request an id, times, counts and logs it, and answers what nobody caught."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics, new_id: Callable[[], str]) -> None:
        self._app = app
        self._metrics = metrics
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; only HTTP is touched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        started_s = time.perf_counter()
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            LOG.exception("request %s failed", request_id)
            if answer.status is not None:
                raise  # half an answer is out: the server must break the connection
            await errors.internal_error(request_id)(scope, receive, answer.send)
        finally:
            self._finish(scope, answer, time.perf_counter() - started_s)

    def _id_of(self, scope: Scope) -> str:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        return given if _SAFE_ID.fullmatch(given) else self._new_id()

    def _finish(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        status = answer.status or errors.CLIENT_GONE
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.observe(scope["method"], route, status, seconds)
        ACCESS.info(
            "%s %s %d %.1f ms %d bytes request_id=%s",
            scope["method"],
            scope["path"],
            status,
            seconds * 1000,
            answer.sent_bytes,
            answer.request_id,
        )


class _Answer:
    """Passes an answer on, puts the id into it and remembers how it went."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status: int | None = None
        self.sent_bytes = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.request_id
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)


class BodyLimit:
    """Refuses bodies above a limit: by their length where it is told, else while they come."""

    def __init__(self, app: ASGIApp, limit_of: Callable[[Scope], int]) -> None:
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; only HTTP is touched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope)
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told) > limit:
            refusal = errors.problem(_too_large(limit), scope["state"]["request_id"])
            await refusal(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)


def _counted(receive: Receive, limit: int) -> Receive:
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            # Not TooLarge itself: FastAPI lets only this class through while it reads a body.
            raise HTTPException(413, _too_large(limit).message)
        return message

    return counting


def _too_large(limit: int) -> ErrorInfo:
    return ErrorInfo.of(TooLarge(f"the request body is over the limit of {limit} bytes"))

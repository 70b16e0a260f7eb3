"""Sends one call, again where that is safe and of use; every error that leaves here is ours."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx

from offshelf_client import _io_async
from offshelf_client._errors import ApiError, TransportError, translated
from offshelf_client._retrying import Attempts
from offshelf_client._wire import json_of, problem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from offshelf_client._config import Retry, Timeout
    from offshelf_client._wire import Call


class AsyncTransport:
    """A connection pool to one service."""

    def __init__(
        self,
        url: str,
        timeout: Timeout,
        retry: Retry,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.retry = retry
        self.timeout = timeout
        self._url = url
        with translated(url, url):
            self._http = httpx.AsyncClient(
                base_url=url,
                timeout=httpx.Timeout(**asdict(timeout)),
                transport=transport,
                headers={"User-Agent": "offshelf-client"},
            )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, call: Call) -> httpx.Response:
        """Make a call, with retries; the answer has a status under 400 and has been read."""
        attempts = Attempts(self.retry)
        while True:
            try:
                return await self._once(call)
            except (ApiError, TransportError) as error:
                pause_s = attempts.pause_after(error, safe=call.safe)
                if pause_s is None:
                    raise
            await _io_async.pause(pause_s, self.retry.sleep)

    async def json(self, call: Call) -> Any:
        """Make a call and read its JSON answer."""
        return json_of(await self.send(call))

    @asynccontextmanager
    async def lines(self, call: Call, read_s: float) -> AsyncIterator[AsyncIterator[str]]:
        """Make a call once and read its answer line by line; `read_s` is the longest silence."""
        timeout = httpx.Timeout(**asdict(self.timeout) | {"read": read_s})
        with translated(str(call), self._url):
            request = self._http.build_request(
                call.method, call.path, headers=call.headers, timeout=timeout, **call.body()
            )
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code >= 400:
                    await response.aread()
                    raise problem_of(response)
                yield response.aiter_lines()
            finally:
                await response.aclose()

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[httpx.Response]:
        """Make a call once; its answer, of a status under 400, has not been read."""
        with translated(str(call), self._url):
            request = self._http.build_request(
                call.method, call.path, headers=call.headers, **call.body()
            )
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code >= 300 and response.status_code != 304:
                    await response.aread()
                    raise problem_of(response)
                yield response
            finally:
                await response.aclose()

    async def _once(self, call: Call) -> httpx.Response:
        with translated(str(call), self._url):
            response = await self._http.request(
                call.method, call.path, headers=call.headers, **call.body()
            )
        if response.status_code >= 300:
            raise problem_of(response)
        return response

# Generated from _async by generate_sync.py; edit there.
"""Sends one call, again where that is safe and of use; every error that leaves here is ours."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx

from offshelf_client import _io_sync
from offshelf_client._errors import ApiError, TransportError, translated
from offshelf_client._retrying import Attempts
from offshelf_client._wire import json_of, problem_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf_client._config import Retry, Timeout
    from offshelf_client._wire import Call


class Transport:
    """A connection pool to one service."""

    def __init__(
        self,
        url: str,
        timeout: Timeout,
        retry: Retry,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self.retry = retry
        self.timeout = timeout
        self._url = url
        with translated(url, url):
            self._http = httpx.Client(
                base_url=url,
                timeout=httpx.Timeout(**asdict(timeout)),
                transport=transport,
                headers={"User-Agent": "offshelf-client"},
            )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, call: Call) -> httpx.Response:
        """Make a call, with retries; the answer has a status under 400 and has been read."""
        attempts = Attempts(self.retry)
        while True:
            try:
                return self._once(call)
            except (ApiError, TransportError) as error:
                pause_s = attempts.pause_after(error, safe=call.safe)
                if pause_s is None:
                    raise
            _io_sync.pause(pause_s, self.retry.sleep)

    def json(self, call: Call) -> Any:
        """Make a call and read its JSON answer."""
        return json_of(self.send(call))

    @contextmanager
    def lines(self, call: Call, read_s: float) -> Iterator[Iterator[str]]:
        """Make a call once and read its answer line by line; `read_s` is the longest silence."""
        timeout = httpx.Timeout(**asdict(self.timeout) | {"read": read_s})
        with translated(str(call), self._url):
            request = self._http.build_request(
                call.method, call.path, headers=call.headers, timeout=timeout, **call.body()
            )
            response = self._http.send(request, stream=True)
            try:
                if response.status_code >= 400:
                    response.read()
                    raise problem_of(response)
                yield response.iter_lines()
            finally:
                response.close()

    @contextmanager
    def open(self, call: Call) -> Iterator[httpx.Response]:
        """Make a call once; its answer, of a status under 400, has not been read."""
        with translated(str(call), self._url):
            request = self._http.build_request(
                call.method, call.path, headers=call.headers, **call.body()
            )
            response = self._http.send(request, stream=True)
            try:
                if response.status_code >= 300 and response.status_code != 304:
                    response.read()
                    raise problem_of(response)
                yield response
            finally:
                response.close()

    def _once(self, call: Call) -> httpx.Response:
        with translated(str(call), self._url):
            response = self._http.request(
                call.method, call.path, headers=call.headers, **call.body()
            )
        if response.status_code >= 300:
            raise problem_of(response)
        return response

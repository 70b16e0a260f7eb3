"""Fetches a published weights file: whole, with the right hash and on record, or not at all.

What has arrived stays beside the target as `<name>.part`, so that a connection that breaks and a
process that is killed cost no byte twice. One process at a time works on a file.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from filelock import FileLock, Timeout

from offshelf.backbones.progress import progress
from offshelf.backbones.records import record, record_of, recorded, sha256_now
from offshelf.core.addresses import shown
from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.backbones.progress import Show

log = logging.getLogger(__name__)

MAX_RETRY_AFTER_S: Final = 60.0
_LATER: Final = (408, 425, 429)  # and every 5xx: the same request may succeed another time
_RANGE_NOT_SATISFIABLE: Final = 416
_PARTIAL_CONTENT: Final = 206


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server, in seconds: to connect, for each read, and in all.

    `total_s` also bounds the wait for another process that fetches the same file. `pauses` are
    the waits between tries; they begin anew when a try brought the file forward.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 3_600.0
    pauses: tuple[float, ...] = (1.0, 3.0, 10.0)


def fetch(url: str, target: Path, sha256_prefix: str, patience: Patience | None = None) -> None:
    """Download `url` to `target`, atomically, after checking the sha256 of all of it.

    The hash must begin with `sha256_prefix` and agree with the record, where there is one; else
    it goes on record. A target that is there by now, fetched by another process, is left alone.
    Raises DependencyError that says what went wrong; then the target is not there, but what
    arrived of it may be kept.
    """
    waits = patience or Patience()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, waits):
            if not target.is_file():
                _Download(url, target, sha256_prefix, waits).run()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DependencyError(f"{shown(url)}: {_reason(error)}") from error
    except OSError as error:
        raise DependencyError(f"cannot write {target}: {error.strerror or error}") from error


@contextmanager
def _alone(target: Path, waits: Patience) -> Iterator[None]:
    """Keep other processes from the same file; the system lets go of the lock of a dead one."""
    lock = FileLock(f"{target}.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process downloads %s; waiting for it", target.name)
            lock.acquire(timeout=waits.total_s)
    except Timeout as error:
        raise DependencyError(
            f"another process has been downloading {target} for {waits.total_s:.0f} s"
        ) from error
    try:
        yield
        # Where all went well: whoever waits finds the file, whichever lock they then hold.
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a part is a part of; without a validator it cannot be gone on with."""

    url: str
    validator: str | None
    total: int | None

    @classmethod
    def of(cls, url: str, response: httpx.Response) -> _Origin:
        """As the answer tells it. A weak ETag does not promise the same bytes."""
        tag = response.headers.get("ETag", "")
        validator = tag if tag and not tag.startswith("W/") else None
        return cls(shown(url), validator or response.headers.get("Last-Modified"), _total(response))


class _Download:
    """One file on its way, by as many tries as it takes."""

    def __init__(self, url: str, target: Path, prefix: str, waits: Patience) -> None:
        self._url, self._target, self._prefix, self._waits = url, target, prefix, waits
        self._part = target.with_name(target.name + ".part")
        self._about = target.with_name(target.name + ".part.json")
        self._give_up_s = time.monotonic() + waits.total_s
        self._resumed = False

    def run(self) -> None:
        """Bring the target there, or raise."""
        self._complete()
        try:
            sha256 = self._accepted()
        except DependencyError as error:
            if not self._resumed:
                raise
            log.warning("%s; it was put together of parts, so it is fetched anew", error)
            self._resumed = False
            self._complete()
            sha256 = self._accepted()
        # In this order: a file is never there without its record.
        record(self._target, sha256)
        self._part.replace(self._target)
        self._about.unlink(missing_ok=True)

    def _complete(self) -> None:
        """Try until the part is all of the file; raises what the last try raised."""
        pauses, best = iter(self._waits.pauses), self._size()
        with progress(self._target.name) as show:
            while True:
                try:
                    return self._try(show)
                except httpx.HTTPError as error:
                    if self._size() > best:
                        pauses, best = iter(self._waits.pauses), self._size()
                    self._pause(next(pauses, None), error)

    def _pause(self, pause_s: float | None, error: httpx.HTTPError) -> None:
        """Wait for another try; raises `error` where there is to be none."""
        if pause_s is None or not self._may_pass(error):
            raise error
        pause_s = max(pause_s, _retry_after_s(error))
        if time.monotonic() + pause_s > self._give_up_s:
            raise error
        log.warning("%s: %s; trying again in %.0f s", self._target.name, _reason(error), pause_s)
        time.sleep(pause_s)

    def _may_pass(self, error: httpx.HTTPError) -> bool:
        """Whether another try may go better.

        Where nobody answers and nothing has ever come, none will: a machine without a network is
        told so at once.
        """
        if isinstance(error, httpx.HTTPStatusError):
            status = error.response.status_code
            return status in (*_LATER, _RANGE_NOT_SATISFIABLE) or status >= 500
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return self._size() > 0
        return not isinstance(error, httpx.UnsupportedProtocol | httpx.TooManyRedirects)

    def _try(self, show: Show) -> None:
        """One request, for what is not here yet."""
        origin = self._origin()
        if origin is not None and origin.total == self._size():
            return
        timeout = httpx.Timeout(self._waits.read_s, connect=self._waits.connect_s)
        headers = {"Accept-Encoding": "identity", **self._resuming(origin)}
        with httpx.stream(
            "GET", self._url, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            if response.status_code == _RANGE_NOT_SATISFIABLE:
                self._drop()
            response.raise_for_status()
            self._receive(response, origin, show)

    def _receive(self, response: httpx.Response, before: _Origin | None, show: Show) -> None:
        """Write the body to the part: after what is there, or in its place."""
        origin = _Origin.of(self._url, response)
        start = self._start(response, before, origin)
        if start:
            log.info("%s: going on at byte %d", self._target.name, start)
            self._resumed = True
        else:
            # Emptied first: its old bytes must never stand under the new validator.
            self._part.write_bytes(b"")
            self._about.write_text(json.dumps(asdict(origin)), encoding="utf-8")
        with self._part.open("ab") as file:
            show(start, origin.total)
            for chunk in response.iter_raw():  # as it comes: what waits for more is lost
                if time.monotonic() > self._give_up_s:
                    raise httpx.ReadTimeout(f"not finished after {self._waits.total_s:.0f} s")
                file.write(chunk)
                show(file.tell(), origin.total)
            file.flush()
            os.fsync(file.fileno())

    def _start(self, response: httpx.Response, before: _Origin | None, now: _Origin) -> int:
        """At which byte of the file this answer begins."""
        if response.status_code != _PARTIAL_CONTENT:
            return 0
        size = self._size()
        span = response.headers.get("Content-Range", "")
        if before == now and span.startswith(f"bytes {size}-"):
            return size
        # A part of another file, or another part: nothing that is here can be built upon.
        self._drop()
        raise httpx.RemoteProtocolError(f"the answer to bytes {size}- is {span or 'unlabelled'}")

    def _accepted(self) -> str:
        """The sha256 of the finished part; one that is wrong is dropped and told."""
        found = sha256_now(self._part)
        known = recorded(self._target)
        if found.startswith(self._prefix) and known in (None, found):
            return found
        self._drop()
        if not found.startswith(self._prefix):
            raise DependencyError(
                f"{shown(self._url)} has sha256 {found}, not {self._prefix}...: "
                "it is damaged or another file"
            )
        raise DependencyError(
            f"{shown(self._url)} has sha256 {found}, but {known} is on record: it is damaged, or "
            f"it was replaced; if you trust the new one, delete {record_of(self._target)}"
        )

    def _origin(self) -> _Origin | None:
        """What the part is of; None where there is no part, or none that can be gone on with."""
        try:
            origin = _Origin(**json.loads(self._about.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        good = origin.url == shown(self._url) and origin.validator and self._size()
        return origin if good else None

    def _resuming(self, origin: _Origin | None) -> dict[str, str]:
        if origin is None or origin.validator is None:
            return {}
        return {"Range": f"bytes={self._size()}-", "If-Range": origin.validator}

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _drop(self) -> None:
        self._part.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)


def _total(response: httpx.Response) -> int | None:
    """The bytes of the whole file, as far as the answer says."""
    if response.status_code == _PARTIAL_CONTENT:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _retry_after_s(error: httpx.HTTPError) -> float:
    """For how long the server asks to be left alone, within reason."""
    if not isinstance(error, httpx.HTTPStatusError):
        return 0.0
    text = error.response.headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isdecimal() else 0.0


def _reason(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Why it failed, in words; httpx leaves many messages empty."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, httpx.TimeoutException):
        return f"the server did not answer in time {error}".rstrip()
    return f"{type(error).__name__} {error}".rstrip()

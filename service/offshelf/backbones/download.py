"""Fetches a published weights file: whole and with the right hash, or not at all."""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from offshelf.core.addresses import shown
from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server, in seconds: to connect, for each read, and in all."""

    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 3_600.0


def fetch(url: str, target: Path, sha256_prefix: str, patience: Patience | None = None) -> None:
    """Download `url` to `target`, atomically, after checking the sha256 of all of it.

    Raises DependencyError that says what went wrong; then there is no file left behind.
    """
    waits = patience or Patience()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the target's own folder, so that the last step is an atomic rename.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
            part = Path(folder) / target.name
            _check_hash(url, _stream(url, part, waits), sha256_prefix)
            part.replace(target)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DependencyError(f"{shown(url)}: {_reason(error)}") from error
    except OSError as error:
        raise DependencyError(f"cannot write {target}: {error.strerror or error}") from error


def _check_hash(url: str, found: str, prefix: str) -> None:
    if not found.startswith(prefix):
        raise DependencyError(
            f"{shown(url)} has sha256 {found[:16]}..., not {prefix}...: "
            "it is damaged or another file"
        )


def _stream(url: str, part: Path, waits: Patience) -> str:
    """Write the body to `part`; its sha256 in hex."""
    timeout = httpx.Timeout(waits.read_s, connect=waits.connect_s)
    give_up_s = time.monotonic() + waits.total_s
    digest = hashlib.sha256()
    with (
        httpx.stream("GET", url, timeout=timeout, follow_redirects=True) as response,
        part.open("wb") as file,
    ):
        response.raise_for_status()
        total = response.headers.get("Content-Length")
        with _progress(part.name, int(total) if total else None) as advance:
            for chunk in response.iter_raw(CHUNK_BYTES):
                if time.monotonic() > give_up_s:
                    raise httpx.ReadTimeout(f"not finished after {waits.total_s:.0f} s")
                digest.update(chunk)
                file.write(chunk)
                advance(len(chunk))
    return digest.hexdigest()


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar where somebody watches, two lines in the log where nobody does."""
    log.info("downloading %s (%s bytes)", name, total or "unknown")
    if not sys.stderr.isatty():
        yield lambda _: None
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=total)
            yield lambda count: bar.advance(task, count)
    log.info("downloaded %s", name)


def _reason(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Why it failed, in words; httpx leaves many messages empty."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, httpx.TimeoutException):
        return f"the server did not answer in time {error}".rstrip()
    return f"{type(error).__name__} {error}".rstrip()

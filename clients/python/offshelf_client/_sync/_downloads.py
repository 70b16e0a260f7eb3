# Generated from _async by generate_sync.py; edit there.
"""Downloads a file, and goes on where it broke."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from offshelf_client import _io_sync
from offshelf_client._errors import (
    ApiError,
    ExportPendingError,
    RangeNotSatisfiableError,
    TransportError,
)
from offshelf_client._models import Progress
from offshelf_client._partial import Partial
from offshelf_client._retrying import Attempts
from offshelf_client._wire import Call

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf_client._progress import Show
    from offshelf_client._sync._transport import Transport

# Between two looks whether a file has been written that the service writes when asked for it.
PENDING_S: Final = 2.0


def fetch(transport: Transport, path: str, target: Path, known: str | None, show: Show) -> str:
    """Get `path` into `target`, and its ETag. With `known`, the ETag of the file that is there.

    A part that an earlier run left is gone on with if it is of the same bytes. Connections that
    break are opened again as long as something comes. Raises ApiError, TransportError.
    """
    attempts = Attempts(transport.retry)
    with closing(Partial(target)) as part:
        while True:
            before = part.size
            try:
                return _once(transport, path, part, known, show)
            except ExportPendingError as error:
                show(Progress(f"export {target.name}", 0, None, unit="bytes"))
                pause_s: float | None = error.retry_after_s or PENDING_S
            except RangeNotSatisfiableError as error:
                part.discard()
                pause_s = attempts.pause_after(error, safe=True)
            except (ApiError, TransportError) as error:
                part.close()
                if part.size > before:
                    attempts, pause_s = Attempts(transport.retry), 0.0
                else:
                    pause_s = attempts.pause_after(error, safe=True)
                if pause_s is None:
                    raise
            _io_sync.pause(pause_s or 0.0, transport.retry.sleep)


def _once(transport: Transport, path: str, part: Partial, known: str | None, show: Show) -> str:
    name = part.target.name
    if known is None and part.complete:
        part.finish()
        return part.etag
    with transport.open(Call("GET", path, headers=part.headers(known))) as response:
        if response.status_code == 304 and known is not None:
            return known
        part.begin(response)
        done = part.size
        show(Progress(name, done, part.total, unit="bytes"))
        # As it comes: what a buffer holds when the line breaks would have to come again.
        for chunk in response.iter_bytes():
            _io_sync.blocking(partial(part.add, chunk))
            done += len(chunk)
            show(Progress(name, done, part.total, unit="bytes"))
    part.finish()
    return part.etag

# Generated from _async by generate_sync.py; edit there.
"""Heads as files: those that the service writes at once, and those that a worker has to make."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from offshelf_client import _io_sync
from offshelf_client._archive import absolute
from offshelf_client._downloads import checked
from offshelf_client._models import job_of
from offshelf_client._progress import showing
from offshelf_client._sync._downloads import fetch
from offshelf_client._sync._job import Job
from offshelf_client._wire import at, submission

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf_client._progress import ProgressOption
    from offshelf_client._sync._transport import Transport

# What takes a network to make, so it is a job.
BY_A_WORKER: Final = ("onnx-full",)


def export(
    transport: Transport,
    head: str,
    kind: str,
    path: str | Path,
    progress: ProgressOption,
    timeout: float | None,
) -> Path:
    """Have the file made where that is a job, download it in pieces, and check its sha256.

    A download that broke goes on where it was, as those of feature sets do.
    """
    where = at("heads", head, "export")
    if kind in BY_A_WORKER:
        made = transport.json(submission(where, {"format": kind}, None))
        Job(transport, job_of(made)).wait(progress=progress, timeout=timeout)
    target = absolute(path)
    # Only what is known to be whole gets the name.
    coming = target.with_name(f"{target.name}.partial")
    with showing(progress) as show:
        etag = fetch(transport, f"{where}?{urlencode({'format': kind})}", coming, None, show)
    return _io_sync.blocking(partial(checked, coming, etag, target))

# Generated from _async by generate_sync.py; edit there.
"""Heads as files: those that the service writes at once, and those that a worker has to make."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from offshelf_client import _io_sync
from offshelf_client._downloads import save
from offshelf_client._models import job_of
from offshelf_client._sync._job import Job
from offshelf_client._wire import Call, at, query, submission

if TYPE_CHECKING:
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
    """Have the file made where that is a job, download it, and check its sha256."""
    where = at("heads", head, "export")
    if kind in BY_A_WORKER:
        made = transport.json(submission(where, {"format": kind}, None))
        Job(transport, job_of(made)).wait(progress=progress, timeout=timeout)
    response = transport.send(Call("GET", where, query(format=kind)))
    return _io_sync.blocking(partial(save, response, Path(path)))

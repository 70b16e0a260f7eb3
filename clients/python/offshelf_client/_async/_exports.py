"""Heads as files: those that the service writes at once, and those that a worker has to make."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from offshelf_client import _io_async
from offshelf_client._archive import absolute
from offshelf_client._async._downloads import fetch
from offshelf_client._async._job import AsyncJob
from offshelf_client._downloads import checked
from offshelf_client._models import job_of
from offshelf_client._progress import showing
from offshelf_client._wire import at, submission

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf_client._async._transport import AsyncTransport
    from offshelf_client._progress import ProgressOption

# What takes a network to make, so it is a job.
BY_A_WORKER: Final = ("onnx-full",)


async def export(
    transport: AsyncTransport,
    head: str,
    kind: str,
    path: str | Path,
    progress: ProgressOption,
    timeout: float | None,  # noqa: ASYNC109  # the same name in the synchronous client
) -> Path:
    """Have the file made where that is a job, download it in pieces, and check its sha256.

    A download that broke goes on where it was, as those of feature sets do.
    """
    where = at("heads", head, "export")
    if kind in BY_A_WORKER:
        made = await transport.json(submission(where, {"format": kind}, None))
        await AsyncJob(transport, job_of(made)).wait(progress=progress, timeout=timeout)
    target = absolute(path)
    # Only what is known to be whole gets the name.
    coming = target.with_name(f"{target.name}.partial")
    with showing(progress) as show:
        etag = await fetch(transport, f"{where}?{urlencode({'format': kind})}", coming, None, show)
    return await _io_async.blocking(partial(checked, coming, etag, target))

"""`offshelf jobs`: looking at queued work, waiting for it, ending it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.options import AsJson, ShowProgress, Url, connect, progress_option
from offshelf.commands.output import table

if TYPE_CHECKING:
    from offshelf_client import Job

JobId = Annotated[str, typer.Argument(help="Identifier of the job.")]

jobs = typer.Typer(
    help="Look at jobs, wait for them, cancel them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@jobs.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List jobs, newest first."""
    with connect(url) as client:
        found = client.jobs.list(limit)
    if as_json:
        typer.echo(json.dumps([asdict(job.status) for job in found]))
    else:
        _show(found)


@jobs.command()
def show(job_id: JobId, url: Url = None) -> None:
    """Print a job as JSON."""
    with connect(url) as client:
        typer.echo(json.dumps(asdict(client.jobs.get(job_id).status), indent=2))


@jobs.command()
def wait(
    job_id: JobId,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most; the job goes on.")
    ] = None,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Wait until a job has ended."""
    with connect(url) as client:
        job = client.jobs.get(job_id).wait(progress=progress_option(progress), timeout=timeout)
        _show([job])


@jobs.command()
def cancel(job_id: JobId, url: Url = None) -> None:
    """Ask for the end of a job."""
    with connect(url) as client:
        job = client.jobs.get(job_id)
        if job.status.finished:
            ended = f"job {job_id} has ended ({job.state}): there is nothing to cancel"
            typer.echo(ended, err=True)
        else:
            job = job.cancel()
        _show([job])


def _show(found: list[Job]) -> None:
    rows = [
        (job.id, s.kind, s.state, s.stage, s.done, s.failed, s.total)
        for job, s in ((job, job.status) for job in found)
    ]
    typer.echo(table(("id", "kind", "state", "stage", "done", "failed", "total"), rows))

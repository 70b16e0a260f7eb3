# Generated from _async by generate_sync.py; edit there.
"""`client.jobs`: queued work by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client._models import job_of
from offshelf_client._sync._job import Job
from offshelf_client._sync._pages import rows
from offshelf_client._wire import Call, at

if TYPE_CHECKING:
    from offshelf_client._sync._transport import Transport


class Jobs:
    """`client.jobs`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, job_id: str) -> Job:
        """A job by its id. Raises UnknownNameError. Example: `client.jobs.get(job.id)`."""
        data = self._transport.json(Call("GET", at("jobs", job_id)))
        return Job(self._transport, job_of(data))

    def list(self, limit: int | None = None) -> list[Job]:
        """Newest first: all that there are, or the first `limit`.

        Example: `[job.id for job in client.jobs.list() if job.state == "running"]`.
        """
        found = rows(self._transport, "/v1/jobs", limit)
        return [Job(self._transport, job_of(data)) for data in found]

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job. Example: `client.jobs.cancel(job.id)`."""
        return (self.get(job_id)).cancel()

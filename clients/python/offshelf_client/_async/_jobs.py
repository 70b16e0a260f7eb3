"""`client.jobs`: queued work by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client._async._job import AsyncJob
from offshelf_client._async._pages import rows
from offshelf_client._models import job_of
from offshelf_client._wire import Call, at

if TYPE_CHECKING:
    from offshelf_client._async._transport import AsyncTransport


class AsyncJobs:
    """`client.jobs`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self, job_id: str) -> AsyncJob:
        """A job by its id. Raises UnknownNameError. Example: `await client.jobs.get(job.id)`."""
        data = await self._transport.json(Call("GET", at("jobs", job_id)))
        return AsyncJob(self._transport, job_of(data))

    async def list(self, limit: int | None = None) -> list[AsyncJob]:
        """Newest first: all that there are, or the first `limit`.

        Example: `[job.id for job in await client.jobs.list() if job.state == "running"]`.
        """
        found = await rows(self._transport, "/v1/jobs", limit)
        return [AsyncJob(self._transport, job_of(data)) for data in found]

    async def cancel(self, job_id: str) -> AsyncJob:
        """Ask for the end of a job. Example: `await client.jobs.cancel(job.id)`."""
        return await (await self.get(job_id)).cancel()

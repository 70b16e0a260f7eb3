"""`client.jobs` and `client.feature_sets`: queued work by its id, and whole matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client._async._job import AsyncJob
from offshelf_client._async._pages import rows
from offshelf_client._models import FeatureSet, feature_set_of, job_of
from offshelf_client._wire import Call, at, feature_params, submission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf_client._async._transport import AsyncTransport
    from offshelf_client._models import Dataset


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


class AsyncFeatureSets:
    """`client.feature_sets`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        dataset: str | Dataset,
        *,
        backbone: str | None = None,
        taps: str | Sequence[str] = "penultimate",
        view: str = "center",
        pool: str | None = None,
        normalize: str = "none",
        merge: str = "mean",
        weights: str | None = None,
        deterministic: bool = False,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """Extract the features of a whole dataset, all taps in one pass, and keep them.

        The parameters are those of `client.features`. Features that are there are not extracted
        again, by this or by heads. `deterministic` fixes which images run together, so that runs
        that were interrupted give the same bytes as others. Raises UnknownNameError,
        InvalidParameterError. Example:
        `job = await client.feature_sets.create(dataset, taps=["fc6", "fc7:pre"])`.
        """
        params = feature_params(backbone, taps, view, pool, normalize, weights, merge)
        body = {"dataset": dataset if isinstance(dataset, str) else dataset.id, **params}
        if deterministic:
            body["deterministic"] = True
        call = submission("/v1/feature-sets", body, idempotency_key)
        return AsyncJob(self._transport, job_of(await self._transport.json(call)))

    async def get(self, feature_set_id: str) -> FeatureSet:
        """A feature set by its id, or UnknownNameError.

        Example: `(await client.feature_sets.get(job.result["feature_set"])).fingerprints`.
        """
        call = Call("GET", at("feature-sets", feature_set_id))
        return feature_set_of(await self._transport.json(call))

    async def delete(self, feature_set_id: str) -> None:
        """Remove a feature set, and its rows where no other set has them.

        Raises JobConflictError while a job works on the same dataset. Example:
        `await client.feature_sets.delete(features.id)`.
        """
        await self._transport.send(Call("DELETE", at("feature-sets", feature_set_id), safe=False))

    async def list(self, limit: int | None = None) -> list[FeatureSet]:
        """All feature sets, or the first `limit`. Example: `await client.feature_sets.list()`."""
        found = await rows(self._transport, "/v1/feature-sets", limit)
        return [feature_set_of(data) for data in found]

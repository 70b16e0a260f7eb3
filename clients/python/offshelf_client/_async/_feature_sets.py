"""`client.feature_sets`: the features of whole datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client._async._feature_set import AsyncFeatureSet
from offshelf_client._async._job import AsyncJob
from offshelf_client._async._pages import rows
from offshelf_client._models import FeatureSetInfo, feature_set_info_of, feature_set_parts, job_of
from offshelf_client._wire import Call, at, feature_params, submission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf_client._async._transport import AsyncTransport
    from offshelf_client._models import Dataset


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

        The parameters are those of `client.features`. `deterministic` fixes which images share
        a batch, so that every run gives the same bytes. Heads on the same features extract
        nothing again. Raises UnknownNameError, InvalidParameterError. Example:
        `job = await client.feature_sets.create(dataset, taps=["fc6", "fc7:pre"])`, then
        `await (await job.wait(progress=True)).feature_set()`.
        """
        params = feature_params(backbone, taps, view, pool, normalize, weights, merge)
        params |= {"deterministic": True} if deterministic else {}
        body = {"dataset": dataset if isinstance(dataset, str) else dataset.id, **params}
        call = submission("/v1/feature-sets", body, idempotency_key)
        return AsyncJob(self._transport, job_of(await self._transport.json(call)))

    async def get(self, feature_set_id: str) -> AsyncFeatureSet:
        """A feature set by its id, or UnknownNameError.

        Example: `(await client.feature_sets.get(job.result["feature_set"])).fingerprints`.
        """
        data = await self._transport.json(Call("GET", at("feature-sets", feature_set_id)))
        return AsyncFeatureSet(self._transport, feature_set_info_of(data), *feature_set_parts(data))

    async def list(self, limit: int | None = None) -> list[FeatureSetInfo]:
        """The cards of all feature sets, or of the first `limit`.

        Example: `[info.id for info in await client.feature_sets.list()]`.
        """
        found = await rows(self._transport, "/v1/feature-sets", limit)
        return [feature_set_info_of(data) for data in found]

    async def delete(self, feature_set_id: str) -> None:
        """Remove a feature set and its files, or UnknownNameError; its dataset stays.

        Example: `await client.feature_sets.delete(feature_set.id)`.
        """
        await self._transport.send(Call("DELETE", at("feature-sets", feature_set_id)))

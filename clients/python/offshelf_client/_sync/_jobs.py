# Generated from _async by generate_sync.py; edit there.
"""`client.jobs` and `client.feature_sets`: queued work by its id, and whole matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client._models import FeatureSet, feature_set_of, job_of
from offshelf_client._sync._job import Job
from offshelf_client._sync._pages import rows
from offshelf_client._wire import Call, at, feature_params, submission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf_client._models import Dataset
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


class FeatureSets:
    """`client.feature_sets`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
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
    ) -> Job:
        """Extract the features of a whole dataset, all taps in one pass, and keep them.

        The parameters are those of `client.features`. Features that are there are not extracted
        again, by this or by heads. `deterministic` fixes which images run together, so that runs
        that were interrupted give the same bytes as others. Raises UnknownNameError,
        InvalidParameterError. Example:
        `job = client.feature_sets.create(dataset, taps=["fc6", "fc7:pre"])`.
        """
        params = feature_params(backbone, taps, view, pool, normalize, weights, merge)
        body = {"dataset": dataset if isinstance(dataset, str) else dataset.id, **params}
        if deterministic:
            body["deterministic"] = True
        call = submission("/v1/feature-sets", body, idempotency_key)
        return Job(self._transport, job_of(self._transport.json(call)))

    def get(self, feature_set_id: str) -> FeatureSet:
        """A feature set by its id, or UnknownNameError.

        Example: `(client.feature_sets.get(job.result["feature_set"])).fingerprints`.
        """
        call = Call("GET", at("feature-sets", feature_set_id))
        return feature_set_of(self._transport.json(call))

    def delete(self, feature_set_id: str) -> None:
        """Remove a feature set, and its rows where no other set has them.

        Raises JobConflictError while a job works on the same dataset. Example:
        `client.feature_sets.delete(features.id)`.
        """
        self._transport.send(Call("DELETE", at("feature-sets", feature_set_id), safe=False))

    def list(self, limit: int | None = None) -> list[FeatureSet]:
        """All feature sets, or the first `limit`. Example: `client.feature_sets.list()`."""
        found = rows(self._transport, "/v1/feature-sets", limit)
        return [feature_set_of(data) for data in found]

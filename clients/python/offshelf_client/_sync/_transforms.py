# Generated from _async by generate_sync.py; edit there.
"""`client.transforms`: PCA-whitenings, fitted on feature sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client._models import Transform, job_of, transform_of
from offshelf_client._sync._job import Job
from offshelf_client._sync._pages import rows
from offshelf_client._wire import Call, at, submission

if TYPE_CHECKING:
    from offshelf_client._models import FeatureSetInfo
    from offshelf_client._sync._feature_set import FeatureSet
    from offshelf_client._sync._transport import Transport


class Transforms:
    """`client.transforms`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def fit(
        self,
        feature_set: str | FeatureSet | FeatureSetInfo,
        dimensions: int,
        *,
        tap: str | None = None,
        epsilon: float = 0.0,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> Job:
        """Fit a PCA-whitening on the features of a feature set, as a queued job.

        It keeps the `dimensions` directions that vary most, each scaled to variance 1
        (`epsilon` is added to the variances first). `tap` may be left out where the feature set
        has one. The job's result has `transform`, its id, and `step`, what to write into
        `normalize`; the steps before it must be those of the feature set. Raises
        UnknownNameError, InvalidParameterError; the job fails for more dimensions than there
        are. Example: `job = client.transforms.fit(features, 500)`, then
        `job.wait()` and `normalize=f"l2,{job.result['step']},l2"`.
        """
        body = {
            "feature_set": feature_set if isinstance(feature_set, str) else feature_set.id,
            "dimensions": dimensions,
            "epsilon": epsilon,
            "name": name,
            **({} if tap is None else {"tap": tap}),
        }
        call = submission("/v1/transforms", body, idempotency_key)
        return Job(self._transport, job_of(self._transport.json(call)))

    def get(self, transform_id: str) -> Transform:
        """A transform by its id, or UnknownNameError.

        Example: `(client.transforms.get(job.result["transform"])).explained`.
        """
        call = Call("GET", at("transforms", transform_id))
        return transform_of(self._transport.json(call))

    def list(self, limit: int | None = None) -> list[Transform]:
        """All transforms, or the first `limit`. Example: `client.transforms.list()`."""
        found = rows(self._transport, "/v1/transforms", limit)
        return [transform_of(data) for data in found]

    def delete(self, transform_id: str) -> None:
        """Remove a transform, or UnknownNameError; heads that use it can no longer predict.

        Example: `client.transforms.delete(transform.id)`.
        """
        self._transport.send(Call("DELETE", at("transforms", transform_id), safe=False))

"""What a job asks for, and what its first step settled for all the others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from offshelf.errors import DependencyError, InvalidParameter, WorkerError
from offshelf.schemas.base import WeightsBody
from offshelf.schemas.feature_sets import FEATURE_SET, FeatureSetRequest, shelf_of
from offshelf.schemas.features import FeatureParams
from offshelf.schemas.heads import HEAD, HEAD_ID_PREFIX, HeadRequest
from offshelf.schemas.learning import Learning
from offshelf.worker.lesson import lesson_of
from offshelf.worker.low_shot import check_low_shot

if TYPE_CHECKING:
    from offshelf.core.jobs import Job
    from offshelf.datasets.protocols.interface import Description
    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import WeightsInfo
    from offshelf.schemas.datasets import Dataset

Request: TypeAlias = FeatureSetRequest | HeadRequest


@dataclass(frozen=True, slots=True)
class Pinned:
    """What `start` settled for a job, kept in the job's `result`."""

    backbone: str
    weights: dict[str, Any]
    specs: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    shard_images: int
    deterministic: bool = False

    @classmethod
    def of(cls, job: Job) -> Pinned:
        """Read it back; WorkerError for a job that was not started."""
        try:
            deterministic = bool(job.params.get("deterministic"))
            known = {name: job.result[name] for name in cls.__slots__ if name != "deterministic"}
            return cls(**known, deterministic=deterministic)
        except KeyError as error:
            raise WorkerError(f"job {job.id} was never planned: no {error}") from error

    @classmethod
    def from_plan(cls, plan: Plan, shard_images: int, *, deterministic: bool = False) -> Pinned:
        """What a plan of the extractor means."""
        return cls(
            backbone=plan.resident.card.name,
            weights=weights_body(plan.resident.weights).model_dump(),
            specs={tap: spec.to_dict() for tap, spec in plan.specs.items()},
            fingerprints={tap: spec.fingerprint for tap, spec in plan.specs.items()},
            shard_images=shard_images,
            deterministic=deterministic,
        )

    @property
    def shelves(self) -> dict[str, str]:
        """Where the shards of each tap stand in the store."""
        return {
            tap: shelf_of(fingerprint, deterministic=self.deterministic)
            for tap, fingerprint in self.fingerprints.items()
        }

    def feature_set_id(self, dataset_id: str) -> str:
        """The id of the features of a dataset: what they are, so that nobody makes them twice."""
        text = json.dumps([dataset_id, self.shelves], sort_keys=True, separators=(",", ":"))
        return f"features-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def hold_to(self, plan: Plan) -> None:
        """DependencyError, so that another worker gets a try, unless it gives these features."""
        here = {tap: spec.fingerprint for tap, spec in plan.specs.items()}
        if here != self.fingerprints:
            raise DependencyError(
                f"this worker's {plan.resident.card.name} is not the one the job began with"
            )

    def shards(self, total: int) -> int:
        """How many shards `total` items make."""
        return -(-total // self.shard_images)

    def numbers(self, index: int, total: int) -> range:
        """The numbers of the items of a shard."""
        first = index * self.shard_images
        return range(first, min(first + self.shard_images, total))


def request_of(job: Job) -> Request:
    """The body of the POST that made the job, which is for features of a dataset."""
    if job.kind == HEAD:
        return HeadRequest.model_validate(job.params)
    if job.kind == FEATURE_SET:
        return FeatureSetRequest.model_validate(job.params)
    raise InvalidParameter(f"job {job.id}: no job kind {job.kind!r}")


def params_of(request: Request) -> FeatureParams:
    """The part of a request that says which features."""
    return FeatureParams.model_validate(request.model_dump(include=set(FeatureParams.model_fields)))


def learning_of(request: HeadRequest) -> Learning:
    """The part of a request that says how a head is trained."""
    return Learning.model_validate(request.model_dump(include=set(Learning.model_fields)))


def head_id_of(job: Job) -> str:
    """The id of a job's head: the same in every run of the job."""
    return f"{HEAD_ID_PREFIX}{job.id}"


def feature_set_id_of(job: Job) -> str:
    """The id of a job's feature set: the same in every run of the job, and of any other like it."""
    return Pinned.of(job).feature_set_id(request_of(job).dataset)


def check_request(dataset: Dataset, description: Description | None, request: Request) -> None:
    """InvalidParameter now, and not after hours of extraction."""
    if not dataset.items:
        raise InvalidParameter(f"dataset {dataset.id} has no images")
    if isinstance(request, HeadRequest):
        lesson = lesson_of(dataset, description, request)
        lesson.check(request)
        check_low_shot(request.low_shot, lesson)


def weights_body(weights: WeightsInfo) -> WeightsBody:
    """The weights of a resident backbone, as shown to clients."""
    return WeightsBody(
        source=weights.source,
        label=weights.label,
        digest=weights.digest,
        licence=weights.licence,
        random=weights.is_random,
        asked=weights.asked,
    )

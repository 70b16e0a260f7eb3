"""In-memory twins of the ports that the API stands on."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf.core.jobs import TERMINAL, Job, JobState, check_transition
from offshelf.core.spec import FeatureSpec, Preprocessing
from offshelf.errors import (
    DependencyError,
    ErrorInfo,
    InvalidImage,
    JobConflict,
    OffshelfError,
    UnknownName,
)
from offshelf.queue.messages import ImageReply, ImageRequest, TapRow
from offshelf.schemas.backbones import BackboneBody, TapBody, WorkerBody
from offshelf.schemas.base import WeightsBody
from offshelf.schemas.health import SelfCheck, SelfTestReport
from offshelf.worker.windowed import windows_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from numpy.typing import NDArray

DIGEST: Final = hashlib.sha256(b"weights").hexdigest()
WEIGHTS: Final = WeightsBody(
    source="directory", label="IMAGENET1K_V1", digest=DIGEST, licence="BSD-3-Clause", random=False
)
SHAPES: Final = {"conv5": (4, 3, 3), "fc7": (6,), "fc7:pre": (6,), "penultimate": (6,)}


def spec_of(params: Mapping[str, Any], tap: str, digest: str = DIGEST) -> FeatureSpec:
    """The FeatureSpec that the fake network has for a tap."""
    return FeatureSpec(
        backbone=params["backbone"] or "alexnet",
        weights_digest=digest,
        tap="fc7" if tap == "penultimate" else tap,
        view=params["view"],
        preprocessing=Preprocessing(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        pooling=params["pool"] or "none",
        normalisation=params["normalize"],
    )


def values_of(image: bytes, tap: str) -> NDArray[np.float32]:
    """What the fake network computes: numbers that depend on the image and the tap alone."""
    seed = int.from_bytes(hashlib.sha256(image + tap.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).normal(size=SHAPES[tap]).astype(np.float32)


class FakeInteractive:
    """Answers at once. `failure` is raised instead; while `gate` is set, asks wait for it."""

    inbox = "inbox:test"

    def __init__(self) -> None:
        self.asked: list[ImageRequest] = []
        self.failure: OffshelfError | None = None
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.cancelled = False
        self.digests: dict[bytes, str] = {}
        self.weights = WEIGHTS

    async def ask(self, requests: Sequence[ImageRequest]) -> list[ImageReply]:
        self.asked += requests
        if self.failure:
            raise self.failure
        if self.gate:
            self.waiting.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        return [ImageReply.unpack(self._reply(request).pack()) for request in requests]

    def _reply(self, request: ImageRequest) -> ImageReply:
        error = self._error(request)
        if error:
            return ImageReply(request.request_id, request.index, error=ErrorInfo.of(error))
        rows, boxes = {}, None
        if request.is_boxed:  # of an image of 40 x 30 pixels
            boxes = np.asarray(windows_of(request).windows(40, 30), np.float64)
        for tap in request.params["taps"]:
            digest = self.digests.get(request.image, DIGEST)
            spec = spec_of(request.params, tap, digest)
            values = values_of(request.image, tap)
            if boxes is not None:
                values = np.stack([values + box[0] for box in boxes]).astype(np.float32)
            rows[tap] = TapRow(spec.to_dict(), spec.fingerprint, values)
        weights = self.weights.model_dump()
        return ImageReply(
            request.request_id, request.index, spec.backbone, weights, rows, boxes=boxes
        )

    def _error(self, request: ImageRequest) -> OffshelfError | None:
        if request.params["backbone"] == "lenet":
            return UnknownName("no backbone named 'lenet'")
        if unknown := [tap for tap in request.params["taps"] if tap not in SHAPES]:
            return UnknownName(f"no tap named {unknown[0]!r}")
        if any(box[0] >= 40 for box in request.boxes or []):
            return InvalidImage("outside the image")
        return InvalidImage("not an image") if request.image.startswith(b"bad") else None


class FakeJobs:
    """Job records in a dict."""

    def __init__(self) -> None:
        self.records: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        self.failure: OffshelfError | None = None

    def create(
        self,
        kind: str,
        owner: str,
        params: Mapping[str, Any],
        idempotency_key: str | None = None,
        total: int = 0,
    ) -> tuple[Job, bool]:
        if self.failure:
            raise self.failure
        if idempotency_key in self.keys:
            job = self.records[self.keys[idempotency_key]]
            if (job.kind, job.params) != (kind, dict(params)):
                raise JobConflict(f"Idempotency-Key {idempotency_key!r} was used for another job")
            return job, False
        job_id = f"j{len(self.records):04d}"
        job = Job(job_id, kind, owner, JobState.QUEUED, dict(params), 1000.0, total=total)
        self.records[job_id] = job
        if idempotency_key is not None:
            self.keys[idempotency_key] = job_id
        return job, True

    def open(self, owner: str) -> Sequence[Job]:
        return [job for job in self.records.values() if job.owner == owner and not job.finished]

    def get(self, job_id: str, owner: str | None = None) -> Job:
        job = self.records.get(job_id)
        if job is None or owner not in (None, job.owner):
            raise UnknownName(f"no job {job_id!r}")
        return job

    def list(self, owner: str, after: str | None, limit: int) -> tuple[Sequence[Job], bool]:
        ids = [i for i in sorted(self.records, reverse=True) if after is None or i < after]
        found = [self.records[i] for i in ids if self.records[i].owner == owner]
        return found[:limit], len(found) > limit

    def advance(
        self,
        job_id: str,
        to: JobState,
        *,
        stage: str | None = None,
        error: ErrorInfo | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Job:
        job = self.get(job_id)
        check_transition(job_id, job.state, to)
        self.records[job_id] = replace(
            job, state=to, stage=stage or job.stage, error=error, result=dict(result or job.result)
        )
        return self.records[job_id]

    def cancel(self, job_id: str, owner: str) -> Job:
        waiting = self.get(job_id, owner).state is JobState.QUEUED
        return self.advance(job_id, JobState.CANCELLED if waiting else JobState.CANCELLING)

    def plan(self, job_id: str, stage: str, total: int, shards: int) -> None:
        self.records[job_id] = replace(self.get(job_id), stage=f"{stage}/{shards}", total=total)

    def shard_done(
        self,
        job_id: str,
        shard: int,
        done: int,
        failed: int,
        *,
        reused: int = 0,
        took_s: float = 0.0,
    ) -> bool:
        raise NotImplementedError("a worker's call")

    def searched(self, job_id: str, search: Mapping[str, float | None]) -> None:
        raise NotImplementedError("a worker's call")

    def tried(self, job_id: str, step: str) -> int:
        raise NotImplementedError("a worker's call")

    def settled(self, job_id: str, step: str) -> None:
        raise NotImplementedError("a worker's call")


class FakeQueue:
    """Keeps the ids of the jobs that were submitted."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.failure: OffshelfError | None = None

    def submit(self, job: Job) -> None:
        if self.failure:
            raise self.failure
        self.submitted.append(job.id)


class FakeEvents:
    """Replays `log`, with a silence in it wherever the id is empty."""

    def __init__(self) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.failure: OffshelfError | None = None
        self.closed = False

    async def follow(self, job_id: str, after: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        self.followed = job_id
        try:
            start = 0 if after == "0" else 1 + [i for i, _ in self.log].index(after)
            for event_id, data in self.log[start:]:
                yield event_id, data
                if data.get("state") in TERMINAL:
                    return
            if self.failure:
                raise self.failure
        finally:
            self.closed = True


@dataclass
class FakeDirectory:
    """Workers and a queue length that tests set."""

    alive: list[WorkerBody] = field(default_factory=list)
    told: dict[str, list[BackboneBody]] = field(default_factory=dict)
    queued: int = 0
    failure: DependencyError | None = None

    def workers(self) -> list[WorkerBody]:
        self.ping()
        return self.alive

    def catalogues(self) -> dict[str, list[BackboneBody]]:
        """Those that a test sets; alexnet for the other workers."""
        self.ping()
        return {one.id: self.told.get(one.id, [backbone("alexnet")]) for one in self.alive}

    def queued_images(self) -> int:
        self.ping()
        return self.queued

    def ping(self) -> None:
        if self.failure:
            raise self.failure


@dataclass
class FakeSelfTests:
    """Workers that pass, but for those that a test silences or fails."""

    silent: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    asked: list[tuple[str | None, str | None, float]] = field(default_factory=list)

    def ask(
        self, workers: Collection[str], backbone: str | None, weights: str | None, timeout_s: float
    ) -> dict[str, SelfTestReport]:
        self.asked.append((backbone, weights, timeout_s))
        check = SelfCheck(name="golden", status="passed", measured=1e-8, tolerance=1e-4)
        return {
            name: SelfTestReport(
                worker=name,
                backbone=backbone or "alexnet",
                passed=name not in self.failing,
                checks=[check],
            )
            for name in workers
            if name not in self.silent
        }


def backbone(name: str, *, present: bool = True) -> BackboneBody:
    """A backbone as a worker publishes it."""
    return BackboneBody(
        name=name,
        taps=[
            TapBody(
                name="fc7", shape=[6], stride=None, receptive_field=None, pre=True, kind="vector"
            )
        ],
        aliases={"penultimate": "fc7"},
        preprocessing={"resize": 256, "crop": 224},
        classes=1000,
        paper="",
        weights={"present": present},
    )


def worker(name: str, *, ready: bool = True, **more: Any) -> WorkerBody:
    """A worker as it publishes itself."""
    fields: dict[str, Any] = {
        "host": "here",
        "pid": 1,
        "engine": "torch",
        "device": "cpu",
        "detail": "canary: alexnet ok" if ready else "canary: alexnet gave NaN",
        "started_s": 0.0,
        "beat_s": 1.0,
        "default_backbone": "alexnet",
    }
    return WorkerBody(id=name, ready=ready, **{**fields, **more})


def files(*images: bytes) -> Any:
    """Images as httpx wants the files of a form."""
    return [("images", (f"{i}.jpg", image)) for i, image in enumerate(images)]

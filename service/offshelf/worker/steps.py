"""The steps of a job. Each may run again from its start at any time, on any worker.

What a step writes is either immutable and written once (shards, manifests, heads) or a set that
takes a member once (finished shards), so a step that is repeated after a crash, or that runs
twice at a time, changes nothing. `start` pins what the job means (fingerprints, shard size) in
the job's result; every later step holds itself to that.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from offshelf.core.jobs import Job, JobState
from offshelf.datasets import records
from offshelf.errors import (
    DependencyError,
    ErrorInfo,
    InvalidParameter,
    JobCancelled,
    JobConflict,
    UnknownName,
)
from offshelf.heads import model
from offshelf.heads.features import read_matrix
from offshelf.heads.fit import FitParams
from offshelf.queue.jobs import WAITING_TO_TRAIN
from offshelf.queue.tasks import Step
from offshelf.schemas.base import WeightsBody
from offshelf.schemas.feature_sets import FEATURE_SET
from offshelf.schemas.heads import HEAD, Head, HeadRequest, ProtocolReport
from offshelf.schemas.transforms import TRANSFORM, TransformRequest
from offshelf.store import layout
from offshelf.worker.committing import commit_feature_set
from offshelf.worker.extraction import WATCH_S, ShardExtraction
from offshelf.worker.lesson import lesson_of
from offshelf.worker.planning import (
    Pinned,
    check_request,
    head_id_of,
    params_of,
    request_of,
)
from offshelf.worker.reporting import report_of
from offshelf.worker.unreadable import unreadable
from offshelf.worker.whitening import fit_whitening

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.datasets.protocols.interface import Description
    from offshelf.queue.interface import Jobs, StepQueue
    from offshelf.schemas.datasets import Dataset
    from offshelf.store.interface import Store
    from offshelf.worker.interface import Extractor
    from offshelf.worker.metrics import WorkerMetrics
    from offshelf.worker.training import Trained, Trainer

# Manifests of large data sets are large, and every shard of a job needs the same one.
DATASETS_KEPT: Final = 8
DESCRIPTIONS_KEPT: Final = 2


class JobSteps:
    """`queue.tasks.StepHandler` over the ports of a worker. `clock` gives Unix time."""

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        extractor: Extractor,
        queue: StepQueue,
        trainer: Trainer,
        metrics: WorkerMetrics,
        shard_images: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._extractor = extractor
        self._queue = queue
        self._trainer = trainer
        self._metrics = metrics
        self._shard_images = shard_images
        self._clock = clock
        self._shards = ShardExtraction(store, extractor)
        self._dataset = lru_cache(DATASETS_KEPT)(partial(records.load, store))
        described = partial(records.load_description, store)
        self._load_description = lru_cache(DESCRIPTIONS_KEPT)(described)

    def start(self, job_id: str) -> None:
        """Check what is asked, pin what it means, and enqueue the shards."""
        self._run(job_id, self._start)

    def shard(self, job_id: str, index: int) -> None:
        """Extract one shard, unless it is there already; the last one enqueues `finish`."""
        self._run(job_id, lambda job: self._shard(job, index))

    def finish(self, job_id: str) -> None:
        """Write the manifest of a feature set; send a head to training."""
        self._run(job_id, self._finish)

    def train(self, job_id: str) -> None:
        """Fit the head of a job, unless it is there already; or its whitening."""
        self._run(job_id, self._train)

    def fail(self, job_id: str, error: BaseException) -> None:
        """Record that the job is given up, and why; one that was to be cancelled is cancelled."""
        with suppress(JobConflict, UnknownName):
            if self._jobs.get(job_id).state is JobState.CANCELLING:
                self._jobs.advance(job_id, JobState.CANCELLED)
            else:
                self._jobs.advance(job_id, JobState.FAILED, error=ErrorInfo.of(error))

    def _run(self, job_id: str, action: Callable[[Job], None]) -> None:
        """Run a step for a job that still wants it; end the job where it is being cancelled."""
        try:
            job = self._jobs.get(job_id)
        except UnknownName:
            return  # the record has expired: nobody will look for the result
        try:
            _check_wanted(job)
            if job.state is JobState.QUEUED:
                job = self._jobs.advance(job_id, JobState.RUNNING, stage="planning")
            action(job)
        except (JobCancelled, JobConflict):  # a conflict: the job ended under our hands
            with suppress(JobConflict, UnknownName):
                if self._jobs.get(job_id).state is JobState.CANCELLING:
                    self._jobs.advance(job_id, JobState.CANCELLED)

    def _watch(self, job_id: str) -> Callable[[], None]:
        """A check to call often: JobCancelled once the job is not to go on.

        Redis away is no reason to drop the work: the check is passed then.
        """
        due_s = 0.0

        def check() -> None:
            nonlocal due_s
            if time.monotonic() < due_s:
                return
            with suppress(DependencyError):
                _check_wanted(self._jobs.get(job_id))
            due_s = time.monotonic() + WATCH_S

        return check

    def _start(self, job: Job) -> None:
        if job.kind == TRANSFORM:
            self._send_to_training(job)
            return
        request = request_of(job)
        dataset = self._dataset(job.owner, request.dataset)
        check_request(dataset, self._description(dataset), request)
        with self._extractor.resolve(params_of(request)) as plan:
            pinned = Pinned.from_plan(plan, self._shard_size(dataset.id))
        self._jobs.advance(job.id, JobState.RUNNING, stage="extracting", result=asdict(pinned))
        total = len(dataset.items)
        self._jobs.plan(job.id, "extracting", total, pinned.shards(total))
        for index in range(pinned.shards(total)):
            self._queue.enqueue(Step.SHARD, job.id, index)

    def _shard(self, job: Job, index: int) -> None:
        pinned, request = Pinned.of(job), request_of(job)
        shard = self._shards.find(request.dataset, pinned, index)
        if shard is None:
            dataset = self._dataset(job.owner, request.dataset)
            shard = self._shards.make(
                dataset, params_of(request), pinned, index, self._watch(job.id)
            )
            self._metrics.job_items(len(shard.kept), len(shard.errors))
        if self._jobs.shard_done(job.id, index, len(shard.kept), len(shard.errors)):
            self._queue.enqueue(Step.FINISH, job.id)

    def _finish(self, job: Job) -> None:
        if job.kind == HEAD:
            self._send_to_training(job)
            return
        dataset = self._dataset(job.owner, request_of(job).dataset)
        features = commit_feature_set(self._store, job, dataset, self._clock())
        self._jobs.advance(job.id, JobState.SUCCEEDED, result={FEATURE_SET: features.id})

    def _send_to_training(self, job: Job) -> None:
        self._jobs.advance(job.id, JobState.RUNNING, stage=WAITING_TO_TRAIN)
        self._queue.enqueue(Step.TRAIN, job.id)

    def _train(self, job: Job) -> None:
        if job.kind == TRANSFORM:
            self._whiten(job)
            return
        head_id = head_id_of(job)
        if not self._store.exists(layout.head_card(job.owner, head_id)):
            self._jobs.advance(job.id, JobState.RUNNING, stage="training")
            model.save(self._store, self._fit(job))
        card = model.load_card(self._store, job.owner, head_id)
        result = {
            HEAD: head_id,
            "train_accuracy": card.train.accuracy,
            "test_accuracy": card.test.accuracy if card.test else None,
            **({"figures": card.protocol.figures} if card.protocol else {}),
            "warnings": card.warnings,
        }
        self._jobs.advance(job.id, JobState.SUCCEEDED, result=result)

    def _whiten(self, job: Job) -> None:
        self._jobs.advance(job.id, JobState.RUNNING, stage="training")
        request = TransformRequest.model_validate(job.params)
        check = self._watch(job.id)
        card = fit_whitening(self._store, self._trainer, job.owner, request, check, self._clock())
        result = {TRANSFORM: card.id, "step": card.step, "explained": card.explained}
        self._jobs.advance(job.id, JobState.SUCCEEDED, result=result)

    def _shard_size(self, dataset_id: str) -> int:
        """Images a shard of this dataset: whatever the first job on it had set."""
        key = layout.shard_plan(dataset_id)
        self._store.put_new(key, json.dumps({"shard_images": self._shard_images}).encode())
        return int(json.loads(self._store.get(key))["shard_images"])

    def _fit(self, job: Job) -> model.LinearHead:
        pinned, request = Pinned.of(job), request_of(job)
        if not isinstance(request, HeadRequest):
            raise InvalidParameter(f"job {job.id} is not for a head")
        dataset = self._dataset(job.owner, request.dataset)
        (fingerprint,) = pinned.fingerprints.values()
        total = len(dataset.items)
        with self._trainer.workdir() as folder:
            workdir = Path(folder)
            matrix = read_matrix(
                self._store,
                dataset.id,
                fingerprint,
                pinned.shards(total),
                total,
                workdir / "X.npy",
            )
            kept, errors = matrix.kept, matrix.errors
            del matrix  # and the file's mapping with it: the child maps it for itself
            description = self._description(dataset)
            lesson = lesson_of(dataset, description, request)
            params = FitParams(request.kind, request.C, dataset.classes)
            trained = self._trainer.fit(workdir, params, lesson.rows(kept), self._watch(job.id))
        report, more = report_of(description, request, pinned.backbone, trained.scores, kept)
        warnings = [*unreadable(dataset, errors), *trained.report.warnings, *more]
        return _head(job, request, pinned, trained, dataset, report, warnings, self._clock())

    def _description(self, dataset: Dataset) -> Description | None:
        """What its protocol read of a dataset; None where it has none."""
        if dataset.protocol is None:
            return None
        return self._load_description(dataset.owner, dataset.id)


def _check_wanted(job: Job) -> None:
    if job.finished or job.state is JobState.CANCELLING:
        raise JobCancelled(f"job {job.id} is {job.state}")


def _head(
    job: Job,
    request: HeadRequest,
    pinned: Pinned,
    trained: Trained,
    dataset: Dataset,
    protocol: ProtocolReport | None,
    warnings: list[str],
    now_s: float,
) -> model.LinearHead:
    ((tap, fingerprint),) = pinned.fingerprints.items()
    card = Head(
        id=head_id_of(job),
        owner=job.owner,
        name=request.name,
        kind=request.kind,
        C=request.C,
        classes=dataset.classes,
        spec=pinned.specs[tap],
        fingerprint=fingerprint,
        weights=WeightsBody(**pinned.weights),
        dataset=request.dataset,
        split=request.split.model_dump() if request.split else None,
        train=trained.report.train,
        test=trained.report.test,
        created_s=now_s,
        versions=trained.report.versions,
        warnings=warnings,
        multi_label=dataset.protocol is not None and dataset.protocol.multi_label,
        regions=dataset.protocol.regions if dataset.protocol else [],
        protocol=protocol,
    )
    return model.LinearHead(card, trained.coef, trained.intercept)

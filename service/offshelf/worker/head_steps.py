"""What is done for a head once the features of its dataset are there: fit, score and keep it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from offshelf.core.jobs import JobState
from offshelf.errors import InvalidParameter
from offshelf.heads import model, names
from offshelf.heads.evaluation import record
from offshelf.heads.evaluation.record import evaluation_of
from offshelf.heads.features import read_matrix
from offshelf.heads.fit import FitParams
from offshelf.schemas.base import WeightsBody
from offshelf.schemas.heads import HEAD, Head, HeadRequest, ProtocolReport
from offshelf.store import layout
from offshelf.worker.lesson import lesson_of
from offshelf.worker.low_shot import Drawing
from offshelf.worker.planning import Pinned, head_id_of, learning_of, request_of
from offshelf.worker.reporting import report_of
from offshelf.worker.searching import telling
from offshelf.worker.unreadable import unreadable
from offshelf.worker.watching import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.queue.interface import Jobs
    from offshelf.schemas.datasets import Dataset
    from offshelf.store.interface import Store
    from offshelf.worker.known_datasets import KnownDatasets
    from offshelf.worker.training import Trained, Trainer


class HeadSteps:
    """The last step of a head's job. `clock` gives Unix time."""

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        trainer: Trainer,
        datasets: KnownDatasets,
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._trainer = trainer
        self._datasets = datasets
        self._clock = clock

    def train(self, job: Job) -> None:
        """Fit the head, unless it is there already."""
        head_id = head_id_of(job)
        if not self._store.exists(layout.head_card(job.owner, head_id)):
            self._jobs.advance(job.id, JobState.RUNNING, stage="training")
            model.save(self._store, self._named(self._fit(job)))
        card = model.load_card(self._store, job.owner, head_id)
        result = {
            HEAD: head_id,
            "train_accuracy": card.train.accuracy,
            "test_accuracy": card.test.accuracy if card.test else None,
            **({"figures": card.protocol.figures} if card.protocol else {}),
            "warnings": card.warnings,
        }
        self._jobs.advance(job.id, JobState.SUCCEEDED, result=result)

    def _named(self, head: model.LinearHead) -> model.LinearHead:
        """With the next version of its name, which is its own from now on."""
        card = head.card
        if not card.name:
            return head
        version = names.claim(self._store, card.owner, card.name, card.id)
        named = card.model_copy(update={"version": version})
        return model.LinearHead(named, head.coef, head.intercept)

    def _fit(self, job: Job) -> model.LinearHead:
        pinned, request = Pinned.of(job), request_of(job)
        if not isinstance(request, HeadRequest):
            raise InvalidParameter(f"job {job.id} is not for a head")
        dataset = self._datasets.dataset(job.owner, request.dataset)
        (shelf,) = pinned.shelves.values()
        total = len(dataset.items)
        with self._trainer.workdir() as folder:
            workdir = Path(folder)
            matrix = read_matrix(
                self._store,
                dataset.id,
                shelf,
                pinned.shards(total),
                total,
                workdir / "X.npy",
            )
            kept, errors = matrix.kept, matrix.errors
            del matrix  # and the file's mapping with it: the child maps it for itself
            description = self._datasets.description(dataset)
            lesson = lesson_of(dataset, description, request)
            params = FitParams(
                learning=learning_of(request),
                classes=dataset.classes,
                first_figure=lesson.first_figure,
            )
            check, told = watch(self._jobs, job.id), telling(self._jobs, job.id)
            trained = self._trainer.fit(workdir, params, lesson.rows(kept), check, told)
            drawing = Drawing(self._trainer, workdir, check, self._jobs, job.id)
            low_shot = drawing.curve(request.low_shot, params, trained.report.C)
        evaluation = evaluation_of(
            dataset.id, lesson.labels, lesson.test, kept, trained.scores, low_shot
        )
        record.save(self._store, job.owner, head_id_of(job), evaluation)
        report, more = report_of(description, request, pinned.backbone, trained.scores, kept)
        warnings = [*unreadable(dataset, errors), *trained.report.warnings, *more]
        return _head(job, request, pinned, trained, dataset, report, warnings, self._clock())


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
        C=trained.report.C,
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
        learning=learning_of(request),
        choice=trained.report.choice,
        calibration=trained.report.calibration,
    )
    return model.LinearHead(card, trained.coef, trained.intercept)

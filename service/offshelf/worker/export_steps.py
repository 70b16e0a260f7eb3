"""What is done for the export of a head that needs torch: make the file, try it, keep it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from offshelf.core.jobs import JobState
from offshelf.core.normalisation import Chain
from offshelf.engine.onnx.nodes import needs_onnx
from offshelf.heads import model
from offshelf.heads.exports.interface import EXPORT
from offshelf.heads.exports.safetensors_file import pack
from offshelf.queue.tasks import Step
from offshelf.schemas.registry import ExportJob, ExportRecord
from offshelf.store import layout
from offshelf.worker.watching import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.core.jobs import Job
    from offshelf.heads.model import LinearHead
    from offshelf.queue.interface import Jobs, StepQueue
    from offshelf.settings import Settings
    from offshelf.store.interface import Store
    from offshelf.worker.interface import Extractor
    from offshelf.worker.training import Trainer

# The child has no use for them, and addresses may have passwords in them.
SECRET: Final = {"redis_url", "store_url"}


class ExportSteps:
    """The steps of an export's job. `clock` gives Unix time.

    The work is its only shard, which goes on to a worker that has the weights where this one has
    not, and waits among the shards of others.
    """

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        extractor: Extractor,
        queue: StepQueue,
        trainer: Trainer,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._extractor = extractor
        self._queue = queue
        self._trainer = trainer
        self._settings = settings
        self._clock = clock

    def start(self, job: Job) -> None:
        """Enqueue the making of the file."""
        self._jobs.advance(job.id, JobState.RUNNING, stage="exporting")
        self._queue.enqueue(Step.SHARD, job.id, 0)

    def make(self, job: Job) -> None:
        """Make the file, unless it is there already."""
        request = ExportJob.model_validate(job.params)
        key = layout.head_export(job.owner, request.head, request.format)
        if not self._store.exists(key):
            needs_onnx("onnx", "onnxscript", "onnxruntime")
            head = model.load(self._store, job.owner, request.head)
            self._check_here(head)
            record = self._made(job, head, request)
            self._store.put_new(key, record.model_dump_json().encode())
        record = ExportRecord.model_validate_json(self._store.get(key))
        result = {EXPORT: request.head, **record.model_dump()}
        self._jobs.advance(job.id, JobState.SUCCEEDED, result=result)

    def _check_here(self, head: LinearHead) -> None:
        """Load the weights, so that WeightsMissing or FingerprintMismatch is told before all."""
        with self._extractor.resolve(model.params_of(head.card)) as plan:
            (spec,) = plan.specs.values()
            head.check(spec)

    def _made(self, job: Job, head: LinearHead, request: ExportJob) -> ExportRecord:
        with self._trainer.workdir() as folder:
            workdir = Path(folder)
            self._prepare(workdir, head)
            self._trainer.run("offshelf.heads.onnx_full", workdir, watch(self._jobs, job.id))
            made = workdir / "model.onnx"
            report = json.loads((workdir / "report.json").read_text())
            sha256 = _sha256(made)
            self._store.put_new(layout.head_export_file(job.owner, head.card.id, sha256), made)
            return ExportRecord(
                format=request.format,
                size=made.stat().st_size,
                sha256=sha256,
                created_s=self._clock(),
                **report,
            )

    def _prepare(self, workdir: Path, head: LinearHead) -> None:
        """Give the child process what it reads."""
        (workdir / "head.safetensors").write_bytes(pack(head))
        settings = self._settings.model_dump_json(exclude=SECRET)
        (workdir / "settings.json").write_text(settings)
        (workdir / "store").mkdir()
        chain = Chain.parse(model.params_of(head.card).normalize)
        for digest, _ in chain.before_whitening():
            copy = workdir / "store" / layout.whitening(digest)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(self._store.get(layout.whitening(digest)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

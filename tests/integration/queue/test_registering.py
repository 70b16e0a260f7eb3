"""Datasets that a worker registers: progress, cancelling, and starting again after a crash."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from dramatiq import Worker

from offshelf.core.jobs import JobState
from offshelf.datasets import records
from offshelf.datasets.interface import ImportLimits
from offshelf.datasets.sources import Sources
from offshelf.queue.broker import Attempts
from offshelf.queue.tasks import DramatiqJobQueue, declare_actors
from offshelf.worker import dataset_steps
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.steps import JobSteps
from offshelf.worker.training import Trainer
from tests.integration.queue.test_broker import Rig
from tests.unit.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offshelf.store.interface import Store

LIMITS = ImportLimits(max_bytes=1, max_files=1000, max_image_bytes=1000)
ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Registering(Rig):
    """A rig whose worker may read some roots."""

    def __init__(self, url: str, root: str, store: Store | None = None) -> None:
        super().__init__(url)
        self.store = store or self.store
        self.steps = JobSteps(
            self.jobs, self.store, self.extractor, DramatiqJobQueue(self.broker),
            Trainer(timeout_s=60), WorkerMetrics(), shard_images=4,
            sources=Sources([root]), limits=LIMITS,
        )  # fmt: skip
        self.broker = self._broker(url)
        self.broker.add_middleware(Attempts(self.jobs, self.steps, 3))
        declare_actors(self.broker, self.steps)
        self.worker = Worker(self.broker, worker_threads=10, worker_timeout=50)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "pets" / name / f"{number}.png").write_bytes(picture(f"{name}{number}"))
    (tmp_path / "pets" / "cat" / "bad.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def rig(url: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registering]:
    monkeypatch.setattr(dataset_steps, "TOLD_FILES", 4)
    rig = Registering(url, str(root))
    rig.worker.start()
    yield rig
    rig.close()


def test_a_source_becomes_a_dataset_and_its_progress_is_told_by_files(
    rig: Registering, root: Path
) -> None:
    job_id = rig.post("dataset", source=str(root / "pets"))
    assert rig.wait(job_id, *ENDED) is JobState.SUCCEEDED
    job = rig.jobs.get(job_id)
    assert (job.total, job.done, job.failed) == (21, 20, 1)
    head = records.load_head(rig.store, "default", job.result["dataset"])
    assert (head.name, head.total, head.copied) == ("pets", 20, False)
    assert [file.path for file in head.skipped] == ["cat/bad.png"]
    again = rig.post("dataset", source=f"file://{root}/pets", copy=True, name="other")
    assert rig.wait(again, *ENDED) is JobState.SUCCEEDED
    assert rig.jobs.get(again).result == job.result


def test_features_of_registered_images_and_of_one_that_changed(
    rig: Registering, root: Path
) -> None:
    job_id = rig.post("dataset", source=str(root / "pets"))
    rig.wait(job_id, *ENDED)
    dataset = rig.jobs.get(job_id).result["dataset"]
    (root / "pets" / "cat" / "3.png").write_bytes(picture("changed"))
    features = rig.post("feature_set", dataset=dataset, taps=["fc7"])
    assert rig.wait(features, *ENDED) is JobState.SUCCEEDED
    job = rig.jobs.get(features)
    assert (job.done, job.failed) == (19, 1)


def test_images_are_added_by_a_job(rig: Registering, root: Path) -> None:
    job_id = rig.post("dataset", source=str(root / "pets"), copy=True)
    rig.wait(job_id, *ENDED)
    parent = rig.jobs.get(job_id).result["dataset"]
    (root / "more" / "cow").mkdir(parents=True)
    (root / "more" / "cow" / "1.png").write_bytes(picture("cow"))
    added = rig.post("dataset", source=str(root / "more"), parent=parent)
    assert rig.wait(added, *ENDED) is JobState.SUCCEEDED
    head = records.load_head(rig.store, "default", rig.jobs.get(added).result["dataset"])
    assert (head.total, head.version, head.parent) == (21, 2, parent)


def test_what_is_wrong_with_a_source_fails_the_job(rig: Registering, root: Path) -> None:
    job_id = rig.post("dataset", source=str(root / "none"))
    assert rig.wait(job_id, *ENDED) is JobState.FAILED
    error = rig.jobs.get(job_id).error
    assert error is not None
    assert error.code == "invalid_parameter"
    assert "there is no folder" in error.message


def test_a_cancel_ends_it_between_two_files(
    rig: Registering, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    took = dataset_steps._Told.took

    def held(self: dataset_steps._Told, *, readable: bool) -> None:
        reached.set()
        go_on.wait(30)
        took(self, readable=readable)

    monkeypatch.setattr(dataset_steps._Told, "took", held)
    monkeypatch.setattr("offshelf.worker.watching.WATCH_S", 0.0)
    job_id = rig.post("dataset", source=str(root / "pets"))
    assert reached.wait(30)
    assert rig.jobs.cancel(job_id, "default").state is JobState.CANCELLING
    go_on.set()
    assert rig.wait(job_id, *ENDED) is JobState.CANCELLED
    assert rig.jobs.get(job_id).done < 20
    assert records.ids(rig.store, "default") == []


def test_a_step_that_died_midway_is_run_again_and_counts_once(
    rig: Registering, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, tries = dataset_steps._Told.end, []

    def dying(self: dataset_steps._Told) -> None:
        end(self)
        tries.append(self._run)
        if len(tries) == 2:
            raise RuntimeError("the worker dies here")

    monkeypatch.setattr(dataset_steps._Told, "end", dying)
    job_id = rig.post("dataset", source=str(root / "pets"))
    assert rig.wait(job_id, *ENDED) is JobState.SUCCEEDED
    job = rig.jobs.get(job_id)
    assert (job.total, job.done + job.failed, job.attempts) == (21, 21, 2)

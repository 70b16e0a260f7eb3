"""Jobs without a server: the worker's own steps, on threads of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offshelf.core.jobs import Job, JobState
from offshelf.errors import JobConflict, UnknownName
from offshelf.heads.features import load_feature_set, read_shards
from offshelf.queue.in_process import InProcessJobs, InProcessQueue, ended
from offshelf.schemas.feature_sets import FEATURE_SET, FeatureSetRequest
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.steps import JobSteps
from offshelf.worker.training import Trainer
from tests.unit.worker.fakes import FakeExtractor, MemoryStore, put_dataset, separable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def extractor() -> Iterator[FakeExtractor]:
    extractor = FakeExtractor()
    yield extractor
    extractor.hold.set()
    extractor.close(1)


def run(
    store: MemoryStore,
    extractor: FakeExtractor,
    dataset: str,
    told: Callable[[Job], None] = lambda _: None,
    **more: Any,
) -> tuple[Job, InProcessJobs]:
    """Extract a dataset, four images a shard, on three threads."""
    jobs, queue = InProcessJobs(), InProcessQueue()
    steps = JobSteps(jobs, store, extractor, queue, Trainer(60), WorkerMetrics(), shard_images=4)
    request = FeatureSetRequest(dataset=dataset, taps=["fc7", "conv5"], **more)
    job, _ = jobs.create(FEATURE_SET, "default", request.model_dump(mode="json"))
    return queue.run(job.id, jobs, steps, 3, told), jobs


def test_a_job_runs_to_its_end(extractor: FakeExtractor) -> None:
    store = MemoryStore()
    images = separable(9)
    images["dark"][3] = b"bad image"
    dataset = put_dataset(store, images)
    told: list[Job] = []
    job, _ = run(store, extractor, dataset.id, told.append)
    assert ended(job) is job
    assert (job.done, job.failed, job.total) == (17, 1, 18)
    assert told[-1] == job
    made = load_feature_set(store, "default", job.result[FEATURE_SET])
    rows = np.concatenate(
        [s.rows for s in read_shards(store, dataset.id, made.fingerprints["fc7"], made.shards)]
    )
    flat = [image for label in sorted(images) for image in images[label]]
    wanted = [np.frombuffer(flat[n], np.uint8).astype(np.float32) / 255 for n in made.kept]
    np.testing.assert_array_equal(rows, np.stack(wanted))


def test_what_was_done_is_not_done_again(extractor: FakeExtractor) -> None:
    store = MemoryStore()
    dataset = put_dataset(store, separable(9))
    first, _ = run(store, extractor, dataset.id)
    computed = extractor.submitted
    again, _ = run(store, extractor, dataset.id)
    assert again.result[FEATURE_SET] == first.result[FEATURE_SET]
    assert (again.done, extractor.submitted) == (18, computed)


def test_a_step_that_fails_ends_the_job_with_its_reason(extractor: FakeExtractor) -> None:
    store = MemoryStore()
    dataset = put_dataset(store, separable(2))
    job, _ = run(store, extractor, dataset.id, backbone="lenet")
    assert job.state is JobState.FAILED
    with pytest.raises(UnknownName, match="lenet"):
        ended(job)


def test_who_stops_waiting_stops_the_work_and_goes_on_later(extractor: FakeExtractor) -> None:
    store = MemoryStore()
    dataset = put_dataset(store, separable(20))
    extractor.hold.clear()

    def interrupt(job: Job) -> None:
        if job.stage == "extracting":
            extractor.hold.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store, extractor, dataset.id, interrupt)
    job, _ = run(store, extractor, dataset.id)
    assert (job.state, job.done) == (JobState.SUCCEEDED, 40)


def test_records_are_those_of_the_port() -> None:
    jobs = InProcessJobs(clock=lambda: 5.0)
    job, new = jobs.create("feature_set", "me", {"a": 1}, total=8)
    assert (job.created_s, job.total, new) == (5.0, 8, True)
    assert jobs.create("feature_set", "me", {"a": 1}) == (job, False)
    other, _ = jobs.create("feature_set", "me", {"a": 2})
    assert {one.id for one in jobs.list("me", None, 10)[0]} == {job.id, other.id}
    assert jobs.list("me", None, 1)[1]
    assert jobs.list("you", None, 1) == ([], False)
    with pytest.raises(UnknownName):
        jobs.get(job.id, "you")
    assert jobs.cancel(job.id, "me").state is JobState.CANCELLED
    with pytest.raises(JobConflict):
        jobs.advance(job.id, JobState.RUNNING)
    assert [one.id for one in jobs.open("me")] == [other.id]
    jobs.advance(other.id, JobState.RUNNING)
    jobs.plan(other.id, "extracting", 4, 2)
    assert not jobs.shard_done(other.id, 0, 1, 1)
    assert not jobs.shard_done(other.id, 0, 1, 1)
    assert jobs.shard_done(other.id, 1, 2, 0)
    assert (jobs.get(other.id).done, jobs.get(other.id).failed) == (3, 1)
    with pytest.raises(JobConflict, match="is running"):
        ended(jobs.get(other.id))

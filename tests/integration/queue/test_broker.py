"""Steps through a real Dramatiq worker and a real server."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dramatiq import Worker

from offshelf.core.jobs import JobState
from offshelf.errors import DependencyError, WorkerError
from offshelf.heads import whitening
from offshelf.heads.features import read_shards
from offshelf.heads.model import load_card
from offshelf.heads.names import resolve
from offshelf.queue import broker as broker_module
from offshelf.queue import connection
from offshelf.queue.broker import CAPACITY, Attempts, JobBroker
from offshelf.queue.embedded import EmbeddedValkey
from offshelf.queue.jobs import RedisJobs
from offshelf.queue.tasks import BULK, PLANNING, DramatiqJobQueue, Step, declare_actors
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.steps import JobSteps
from offshelf.worker.training import Trainer
from tests.unit.worker.fakes import (
    FakeExtractor,
    MemoryStore,
    features_of,
    put_dataset,
    separable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from offshelf.core.jobs import Job
    from offshelf.schemas.datasets import Dataset


class Rig:
    """A worker's half and an API's half over one server."""

    def __init__(
        self,
        url: str,
        handler: JobSteps | None = None,
        max_attempts: int = 3,
        store: MemoryStore | None = None,
    ) -> None:
        self.state = connection.connect(url, connection.STATE)
        self.jobs = RedisJobs(self.state, ttl_s=1000)
        self.extractor = FakeExtractor()
        self.store = store or MemoryStore()
        self.broker = self._broker(url)
        self.queue = DramatiqJobQueue(self._broker(url))
        self.steps = handler or JobSteps(
            self.jobs,
            self.store,
            self.extractor,
            DramatiqJobQueue(self.broker),
            Trainer(timeout_s=60),
            WorkerMetrics(),
            shard_images=4,
        )
        self.broker.add_middleware(Attempts(self.jobs, self.steps, max_attempts))
        declare_actors(self.broker, self.steps)
        self.worker = Worker(self.broker, worker_threads=10, worker_timeout=50)

    @staticmethod
    def _broker(url: str) -> JobBroker:
        client = connection.connect(url, connection.BROKER)
        return JobBroker(client, heartbeat_timeout_s=5.0, maintenance_chance=1_000_000)

    def post(self, kind: str, **params: object) -> str:
        job, _ = self.jobs.create(kind, "default", params)
        self.queue.submit(job)
        return job.id

    def wait(self, job_id: str, *states: JobState, timeout_s: float = 30.0) -> JobState:
        self.until(lambda: self.jobs.get(job_id).state in states, timeout_s)
        return self.jobs.get(job_id).state

    @staticmethod
    def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    def close(self) -> None:
        self.extractor.hold.set()
        self.worker.stop(5000)
        self.extractor.close(5)
        self.state.close()
        self.broker.client.close()


@pytest.fixture
def rig(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(broker_module, "RETRY_MIN_S", 0.01)
    rig = Rig(url)
    rig.worker.start()
    yield rig
    rig.close()


def test_a_feature_set_is_made_of_shards_that_are_counted_once(rig: Rig) -> None:
    images = separable(5)
    images["dark"][2] = b"bad image"
    dataset = put_dataset(rig.store, images)
    job_id = rig.post("feature_set", dataset=dataset.id, taps=["fc7", "conv5"])
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.SUCCEEDED
    job = rig.jobs.get(job_id)
    assert (job.total, job.done, job.failed, job.attempts) == (10, 9, 1, 1)
    assert max(Counter(rig.store.writes).values()) == 1


def test_a_head_says_which_images_could_not_be_read(rig: Rig) -> None:
    images = separable(8)
    images["dark"][2] = b"bad image"
    dataset = put_dataset(rig.store, images)
    job_id = rig.post("head", dataset=dataset.id, taps=["fc7"])
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.SUCCEEDED
    result = rig.jobs.get(job_id).result
    assert result is not None
    (path,) = [item.path for item in dataset.items if item.bytes == len(b"bad image")]
    warning = result["warnings"][0]
    assert warning.startswith(f"1 of 16 images could not be read: {path} (")
    card = load_card(rig.store, "default", result["head"])
    assert card.warnings == result["warnings"]


def test_a_whitening_is_fitted_on_a_feature_set(rig: Rig) -> None:
    images = separable(10)
    images["dark"][2] = b"bad image"
    dataset = put_dataset(rig.store, images)
    job_id = rig.post("feature_set", dataset=dataset.id, taps=["fc7", "conv5"])
    rig.wait(job_id, JobState.SUCCEEDED)
    features = rig.jobs.get(job_id).result["feature_set"]
    job_id = rig.post("transform", feature_set=features, tap="fc7", dimensions=3)
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.SUCCEEDED
    result = rig.jobs.get(job_id).result
    made = whitening.load(rig.store, result["transform"])
    good = [image for image in images["bright"] + images["dark"] if not image.startswith(b"bad")]
    X = np.stack([features_of(image, "fc7") for image in good])
    want = whitening.fit(X, 3)
    np.testing.assert_allclose(made.matrix, want.matrix, rtol=1e-5)
    np.testing.assert_allclose(made.mean, want.mean, rtol=1e-6)
    card = whitening.load_card(rig.store, "default", made.digest)
    assert (card.samples, card.inputs, card.dimensions, card.tap) == (19, 6, 3, "fc7")
    assert (card.step, card.fingerprint) == (result["step"], made.spec.fingerprint)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"dimensions": 3}, "has the taps conv5, fc7; none was named"),
        ({"dimensions": 7, "tap": "fc7"}, "ask for 6 at most"),
        ({"dimensions": 3, "feature_set": "features-none"}, "no feature set"),
    ],
)
def test_a_whitening_that_cannot_be_fails_with_the_reason(
    rig: Rig, params: dict[str, object], says: str
) -> None:
    dataset = put_dataset(rig.store, separable(8))
    job_id = rig.post("feature_set", dataset=dataset.id, taps=["fc7", "conv5"])
    rig.wait(job_id, JobState.SUCCEEDED)
    features = rig.jobs.get(job_id).result["feature_set"]
    job_id = rig.post("transform", **{"feature_set": features, **params})
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.FAILED
    error = rig.jobs.get(job_id).error
    assert error is not None
    assert says in error.message


def test_an_expected_error_is_logged_without_a_traceback(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = put_dataset(rig.store, {"only": separable(3)["dark"]})
    job_id = rig.post("head", dataset=dataset.id, taps=["fc7"])
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.FAILED
    error = rig.jobs.get(job_id).error
    assert error is not None
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert [line for line in told if job_id in line and error.message in line]
    assert not [r for r in caplog.records if r.exc_info]


def test_an_unexpected_error_is_logged_with_its_traceback(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(rig.extractor, "resolve", broken)
    job_id = rig.post("feature_set", dataset=put_dataset(rig.store, separable(2)).id)
    assert rig.wait(job_id, JobState.FAILED) is JobState.FAILED
    assert [r for r in caplog.records if r.exc_info and "a fault of ours" in str(r.exc_info[1])]


def test_a_head_is_trained_by_a_real_child_process(rig: Rig) -> None:
    dataset = put_dataset(rig.store, separable(8))
    job_id = rig.post("head", dataset=dataset.id, taps=["fc7"], split={"train_per_class": 5})
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.SUCCEEDED
    assert rig.jobs.get(job_id).result["test_accuracy"] == 1.0


@pytest.mark.timeout(360)  # three children import torch at once
def test_heads_of_one_name_that_are_trained_at_once_get_a_version_each(rig: Rig) -> None:
    dataset = put_dataset(rig.store, separable(10))
    job_ids = [
        rig.post("head", dataset=dataset.id, taps=["fc7"], name="two", C=C) for C in (1.0, 2.0, 3.0)
    ]
    for job_id in job_ids:
        ended = rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED, timeout_s=110)
        assert ended is JobState.SUCCEEDED
    cards = [load_card(rig.store, "default", f"head-{job_id}") for job_id in job_ids]
    assert sorted(card.version or 0 for card in cards) == [1, 2, 3]
    for card in cards:
        assert resolve(rig.store, "default", f"two:{card.version}") == card
    assert resolve(rig.store, "default", "two").version == 3


def test_a_transient_error_is_retried_and_forgotten(rig: Rig) -> None:
    rig.extractor.faults = [WorkerError("once"), WorkerError("twice")]
    dataset = put_dataset(rig.store, separable(1))
    job_id = rig.post("feature_set", dataset=dataset.id)
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.SUCCEEDED
    assert rig.jobs.get(job_id).attempts in (2, 3)
    assert rig.broker.dead_letters(BULK) == 0


def test_a_step_that_always_fails_ends_the_job_and_leaves_a_dead_letter(rig: Rig) -> None:
    rig.extractor.faults = [DependencyError("the address of it", "away")] * 100
    dataset = put_dataset(rig.store, separable(1))
    job_id = rig.post("feature_set", dataset=dataset.id)
    assert rig.wait(job_id, JobState.FAILED) is JobState.FAILED
    job = rig.jobs.get(job_id)
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("dependency_unavailable", "away")
    assert job.attempts == 3
    rig.until(lambda: rig.broker.dead_letters(BULK) == 1)


def test_a_request_error_fails_the_job_at_once(rig: Rig) -> None:
    job_id = rig.post("feature_set", dataset="none")
    rig.wait(job_id, JobState.FAILED)
    job = rig.jobs.get(job_id)
    assert job.error is not None
    assert (job.error.code, job.attempts) == ("unknown_name", 1)
    assert rig.broker.dead_letters(BULK) == 0


def test_a_step_that_crashed_its_worker_too_often_is_not_started_again(rig: Rig) -> None:
    job, _ = rig.jobs.create("feature_set", "default", {"dataset": "none"})
    for _ in range(3):  # three workers that were killed in this step
        rig.jobs.tried(job.id, "start")
    rig.queue.submit(job)
    rig.wait(job.id, JobState.FAILED)
    error = rig.jobs.get(job.id).error
    assert error is not None
    assert error.code == "job_failed"
    assert "started 3 times" in error.message
    rig.until(lambda: rig.broker.dead_letters(PLANNING) == 1)


def test_a_running_extraction_is_cancelled(rig: Rig) -> None:
    rig.extractor.hold.clear()
    dataset = put_dataset(rig.store, separable(8))
    job_id = rig.post("feature_set", dataset=dataset.id)
    rig.until(lambda: rig.extractor.submitted)
    assert rig.jobs.cancel(job_id, "default").state is JobState.CANCELLING
    assert rig.wait(job_id, JobState.CANCELLED, timeout_s=5) is JobState.CANCELLED


def test_what_a_leaving_worker_did_not_finish_is_taken_up_by_the_next(
    url: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.extractor.hold.clear()
    dataset = put_dataset(rig.store, separable(2))
    job_id = rig.post("feature_set", dataset=dataset.id)
    rig.until(lambda: rig.extractor.submitted)
    rig.worker.stop(100)
    (message,) = rig.broker.hand_back()
    assert message.args[0] == job_id
    successor = Rig(url)
    successor.store.objects = rig.store.objects
    successor.worker.start()
    try:
        assert successor.wait(job_id, JobState.SUCCEEDED, timeout_s=10) is JobState.SUCCEEDED
    finally:
        successor.close()


def test_how_a_step_ends_after_it_was_handed_back_does_not_matter(rig: Rig) -> None:
    rig.extractor.hold.clear()
    rig.extractor.faults = [DependencyError("the engine is closing")]
    dataset = put_dataset(rig.store, separable(1))
    job_id = rig.post("feature_set", dataset=dataset.id)
    for _ in range(2):  # the try that runs is the last one it may have
        rig.jobs.tried(job_id, "shard:0")
    rig.until(lambda: rig.extractor.submitted)
    rig.worker.stop(100)
    assert len(rig.broker.hand_back()) == 1
    rig.extractor.hold.set()
    rig.until(lambda: not any(thread.is_alive() for thread in rig.worker.workers))
    assert rig.jobs.get(job_id).state is JobState.RUNNING


def test_messages_that_a_lost_connection_swallowed_are_found_again(rig: Rig) -> None:
    """Redis gave them to us, the answer never came: our acks hold them and nobody runs them."""
    rig.worker.pause()
    job, _ = rig.jobs.create("feature_set", "default", {"dataset": "none"})
    rig.queue.submit(job)
    assert rig.broker.do_fetch(PLANNING, 1)
    rig.broker.consume(PLANNING)  # what the consumer thread does once Redis is back
    rig.worker.resume()
    rig.wait(job.id, JobState.FAILED, timeout_s=10)


def test_a_killed_server_delays_a_job_and_repeats_nothing(
    tmp_path: Path, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    rig = Rig(server.start())
    rig.worker.start()
    try:
        rig.extractor.hold.clear()
        dataset = put_dataset(rig.store, separable(8))
        job_id = rig.post("feature_set", dataset=dataset.id)
        rig.until(lambda: rig.extractor.submitted >= 16)
        rig.state.waitaof(1, 0, 10_000)
        os.kill(server.process_id(), signal.SIGKILL)
        rig.until(server.ensure)
        rig.extractor.hold.set()
        assert rig.wait(job_id, JobState.SUCCEEDED, timeout_s=40) is JobState.SUCCEEDED
        job = rig.jobs.get(job_id)
        assert (job.done, job.failed) == (16, 0)
        assert max(Counter(rig.store.writes).values()) == 1
    finally:
        rig.close()
        server.stop()


def test_cancel_ends_a_training_that_runs_in_its_child(
    url: str, state: redis.Redis, tmp_path: Path
) -> None:
    """The child of a training that would take for ever is gone soon after the cancel."""
    rig = Rig(url)
    started = threading.Event()

    class Endless(Trainer):
        def fit(self, *args, **options):  # type: ignore[no-untyped-def]
            started.set()
            return super().fit(*args, **options)

    # A module that never ends stands before ours on the child's path.
    package = tmp_path / "offshelf" / "heads"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    pid_file = tmp_path / "pid"
    (package / "fit.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    rig.steps._heads._trainer = Endless(
        timeout_s=60, environment={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    rig.worker.start()
    try:
        dataset = put_dataset(rig.store, separable(4))
        job_id = rig.post("head", dataset=dataset.id, taps=["fc7"])
        assert started.wait(10)
        rig.until(lambda: pid_file.exists() and pid_file.read_text())
        rig.jobs.cancel(job_id, "default")
        assert rig.wait(job_id, JobState.CANCELLED, timeout_s=5) is JobState.CANCELLED
        rig.until(lambda: not _alive(int(pid_file.read_text())), timeout_s=5)
    finally:
        rig.close()


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_queue_needs_no_actors_and_refuses_when_redis_is_away(tmp_path: Path) -> None:
    client = connection.connect(f"unix://{tmp_path}/none.sock", connection.BROKER, retries=0)
    broker = JobBroker(client, heartbeat_timeout_s=5.0, maintenance_chance=1)
    with pytest.raises(DependencyError):
        DramatiqJobQueue(broker).enqueue(Step.START, "job")


def posted(rig: Rig, dataset: Dataset, **params: object) -> Job:
    """A feature set's job, ended well."""
    job_id = rig.post("feature_set", dataset=dataset.id, **params)
    assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.SUCCEEDED
    return rig.jobs.get(job_id)


def test_the_same_set_ends_its_job_at_once_even_behind_a_long_job(rig: Rig) -> None:
    dataset = put_dataset(rig.store, separable(6))
    first = posted(rig, dataset, taps=["fc7"])
    assert (first.result["reused"], first.result["computed"]) == (0, 12)
    rig.extractor.hold.clear()
    busy = rig.post("feature_set", dataset=put_dataset(rig.store, separable(60, 1)).id)
    rig.until(lambda: rig.jobs.get(busy).total == 120)
    again = posted(rig, dataset, taps=["fc7"])
    assert again.result["feature_set"] == first.result["feature_set"]
    assert (again.total, again.done, again.reused) == (12, 12, 12)
    assert not rig.jobs.get(busy).finished


def test_a_cancelled_job_posted_again_computes_only_what_is_missing(rig: Rig) -> None:
    dataset = put_dataset(rig.store, separable(20))
    whole = rig.extractor.submit

    def submit(*args, **more):  # the first shards go through
        if rig.extractor.submitted >= 12:
            rig.extractor.hold.clear()
        return whole(*args, **more)

    rig.extractor.submit = submit
    job_id = rig.post("feature_set", dataset=dataset.id, taps=["fc7"])
    rig.until(lambda: rig.jobs.get(job_id).done > 0 and not rig.extractor.hold.is_set())
    rig.jobs.cancel(job_id, "default")
    assert rig.wait(job_id, JobState.CANCELLED, timeout_s=10) is JobState.CANCELLED
    done = rig.jobs.get(job_id).done
    rig.extractor.submit = whole
    rig.extractor.hold.set()
    rig.until(lambda: not rig.extractor._pool._work_queue.qsize())
    before = rig.extractor.submitted
    again = posted(rig, dataset, taps=["fc7"])
    assert again.reused >= done > 0
    assert again.reused + again.result["computed"] == again.done == 40
    assert rig.extractor.submitted - before == again.result["computed"]
    assert max(Counter(rig.store.writes).values()) == 1


def test_a_new_version_of_a_dataset_takes_the_rows_of_the_old(rig: Rig) -> None:
    images = separable(9)
    old = put_dataset(rig.store, images)
    posted(rig, old, taps=["fc7", "conv5"])
    images["dark"] = images["dark"][2:] + separable(3, seed=5)["dark"]
    new = put_dataset(rig.store, images)
    before = rig.extractor.submitted
    job = posted(rig, new, taps=["fc7", "conv5"])
    assert job.result["sources"] == [old.id]
    assert (job.reused, job.result["computed"]) == (16, 3)
    assert rig.extractor.submitted - before == 3
    shelf = job.result["fingerprints"]["fc7"]
    found = np.concatenate([shard.rows for shard in read_shards(rig.store, new.id, shelf, 5)])
    wanted = [features_of(image, "fc7") for image in images["bright"] + images["dark"]]
    np.testing.assert_array_equal(found, np.stack(wanted))


def test_two_jobs_for_one_set_at_once_write_every_shard_once(rig: Rig) -> None:
    dataset = put_dataset(rig.store, separable(30))
    both = [rig.post("feature_set", dataset=dataset.id, taps=["fc7"]) for _ in range(2)]
    for job_id in both:
        assert rig.wait(job_id, JobState.SUCCEEDED, JobState.FAILED) is JobState.SUCCEEDED
    one, other = (rig.jobs.get(job_id) for job_id in both)
    assert one.result["feature_set"] == other.result["feature_set"]
    assert one.done == other.done == 60
    assert max(Counter(rig.store.writes).values()) == 1


def test_a_worker_that_comes_later_takes_its_part(rig: Rig, url: str) -> None:
    """The first worker holds what it took; all else is free for the second."""
    rig.extractor.hold.clear()
    job_id = rig.post("feature_set", dataset=put_dataset(rig.store, separable(100)).id)
    rig.until(lambda: rig.extractor.submitted >= 4 * CAPACITY[BULK])
    second = Rig(url, store=rig.store)
    second.worker.start()
    try:
        held = 4 * CAPACITY[BULK]
        rig.until(lambda: rig.jobs.get(job_id).done == 200 - held)
        assert second.extractor.submitted == 200 - held
    finally:
        rig.extractor.hold.set()
        rig.wait(job_id, JobState.SUCCEEDED)
        second.close()


def test_a_full_store_fails_the_job_with_the_reason_and_the_next_goes_on(rig: Rig) -> None:
    dataset = put_dataset(rig.store, separable(12))
    honest, written = rig.store.put_new, []

    def put_new(key, data):
        if key.endswith(".safetensors"):
            if len(written) >= 2:
                raise DependencyError("cannot use it: No space left on device", "the store is full")
            written.append(key)
        return honest(key, data)

    rig.store.put_new = put_new
    job_id = rig.post("feature_set", dataset=dataset.id, taps=["fc7"])
    assert rig.wait(job_id, JobState.FAILED, JobState.SUCCEEDED) is JobState.FAILED
    error = rig.jobs.get(job_id).error
    assert error is not None
    assert error.message == "the store is full"
    assert rig.jobs.get(job_id).attempts == 3
    rig.store.put_new = honest
    rig.until(lambda: len(written) == 2)
    again = posted(rig, dataset, taps=["fc7"])
    assert (again.reused, again.result["computed"]) == (8, 16)

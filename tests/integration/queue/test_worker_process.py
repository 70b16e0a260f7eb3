"""A whole worker, with a fake extractor, on a real server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from offshelf.core.jobs import JobState
from offshelf.errors import DependencyError, WorkerError
from offshelf.queue import connection
from offshelf.queue.directory import RedisDirectory, left_key
from offshelf.queue.interactive import RedisInbox
from offshelf.queue.selftests import RedisSelfTests
from offshelf.schemas.features import FeatureParams
from offshelf.schemas.health import SelfTestReport
from offshelf.worker.catalogue import describe
from offshelf.worker.health import Health
from offshelf.worker.intake import Intake
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.post import Post
from offshelf.worker.process import Identity, Timing, WorkerProcess
from offshelf.worker.selftesting import SelfTesting
from tests.integration.queue.test_broker import Rig
from tests.integration.queue.test_interactive import asker, requests, until
from tests.unit.worker.fakes import CARD, FakeResident, put_dataset, separable

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeResidency:
    """One backbone is there and one is on its way."""

    def loaded(self) -> dict[tuple[str, str | None], FakeResident]:
        return {("fakenet", "random:0"): FakeResident()}

    def coming(self) -> list[tuple[str, str | None]]:
        return [("othernet", None)]


class PassingTester:
    """Passes for any backbone."""

    def run(self, backbone: str | None, weights: str | None, timeout_s: float) -> SelfTestReport:
        return SelfTestReport(backbone=backbone or "fakenet", passed=True)


class Running:
    """A WorkerProcess in a thread of this process."""

    def __init__(
        self, url: str, drain_s: float = 5.0, canary_s: float = 30.0, sweep_s: float = 30.0
    ) -> None:
        self.rig = Rig(url)
        self.health = Health()
        metrics = WorkerMetrics()
        self.directory = RedisDirectory(self.rig.state)
        inbox = RedisInbox(connection.connect(url, connection.STATE))
        post = Post(
            "w1",
            "fakenet",
            FakeResidency(),  # type: ignore[arg-type]
            lambda: describe([CARD], lambda _: None, "fakenet"),
            self.directory.stations,
        )
        self.process = WorkerProcess(
            Identity("w1", "fake", "cpu", "fakenet", 0.0),
            self.health,
            self.rig.extractor,
            Intake(inbox, self.rig.extractor, metrics, 16, self.health, post),
            self.rig.broker,
            self.rig.jobs,
            self.directory,
            post,
            SelfTesting("w1", RedisSelfTests(self.rig.state), PassingTester()),
            metrics,
            [FeatureParams(backbone="fakenet"), FeatureParams(backbone="nonet")],
            Timing(beat_s=0.05, drain_s=drain_s, canary_s=canary_s, sweep_s=sweep_s),
        )
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.rig.until(lambda: [body for body in self.directory.workers() if body.ready])

    def _run(self) -> None:
        self.status = self.process.run()

    def join(self) -> int | None:
        self._thread.join(20)
        return self.status

    def close(self) -> None:
        self.rig.extractor.hold.set()
        self.health.stop()
        self.join()


@pytest.fixture
def running(url: str) -> Iterator[Running]:
    running = Running(url)
    yield running
    running.close()


def test_a_worker_publishes_what_it_has(running: Running) -> None:
    (body,) = running.directory.workers()
    assert (body.id, body.ready, body.device) == ("w1", True, "cpu")
    assert "nonet" in body.detail  # what could not be preloaded
    here = [(one.backbone, one.weights, one.bytes, one.state) for one in body.resident]
    assert here == [("fakenet", "random:0", 24, "ready"), ("othernet", "", 0, "loading")]
    ((backbone,),) = running.directory.catalogues().values()
    assert (backbone.name, backbone.default) == ("fakenet", True)
    station = running.directory.stations()["w1"]
    assert station.serves == {"fakenet", "fakenet@V1"}  # the weights that it runs by two names
    assert station.resident == {"othernet"}  # random ones attract no requests
    assert backbone.weights["present"] is False
    assert "offshelf_queue_seconds" in body.metrics


async def test_requests_and_jobs_are_served_and_the_end_is_orderly(
    running: Running, url: str
) -> None:
    dataset = put_dataset(running.rig.store, separable(6))
    job_id = running.rig.post("feature_set", dataset=dataset.id)
    async with asker(url) as interactive:
        replies = await interactive.ask(requests(interactive, "r", 5))
        assert [reply.error and reply.error.code for reply in replies] == ["invalid_parameter"] * 5
    running.rig.wait(job_id, JobState.SUCCEEDED)
    running.health.stop()
    assert running.join() == 0
    assert running.directory.workers() == []


def test_a_job_that_does_not_end_in_time_goes_back_to_the_queue(url: str) -> None:
    running = Running(url, drain_s=0.3)
    running.rig.extractor.hold.clear()
    dataset = put_dataset(running.rig.store, separable(2))
    job_id = running.rig.post("feature_set", dataset=dataset.id)
    running.rig.until(lambda: running.rig.extractor.submitted)
    running.health.stop()
    successor = Rig(url)
    successor.store.objects = running.rig.store.objects
    successor.worker.start()
    try:
        assert successor.wait(job_id, JobState.SUCCEEDED, timeout_s=10) is JobState.SUCCEEDED
    finally:
        successor.close()
        running.close()
    assert running.status == 0


def test_a_broken_device_turns_the_worker_red_and_ends_it_with_an_error(running: Running) -> None:
    running.rig.extractor.faults = [WorkerError("the device is gone")]
    running.health.suspect(WorkerError("an image failed"))
    assert running.join() == 1


def test_the_canary_is_tried_when_idle(url: str) -> None:
    running = Running(url, canary_s=0.02)
    try:
        running.rig.until(lambda: running.rig.extractor.canaries_run >= 3)
    finally:
        running.close()
    assert running.status == 0


async def test_a_forward_pass_that_never_returns_ends_the_worker(url: str) -> None:
    running = Running(url, drain_s=0.2, canary_s=0.2)
    running.rig.extractor.hold.clear()
    try:
        async with asker(url) as interactive:
            asks = requests(interactive, "r", 1, params={})
            ask = asyncio.create_task(interactive.ask(asks))
            await until(lambda: running.rig.extractor.submitted)
            running.rig.extractor.faults = [WorkerError("no canary from the device")]
            await until(running.rig.extractor.closing.is_set)
            ask.cancel()
    finally:
        running.close()
    assert running.status == 1
    # What it did not answer is for others to answer.
    assert not running.rig.state.exists(left_key("w1"))


def test_a_worker_that_leaves_in_order_says_so(running: Running) -> None:
    running.health.stop()
    assert running.join() == 0
    assert running.rig.state.exists(left_key("w1"))


def test_a_job_whose_message_was_never_sent_is_started_by_a_worker(url: str) -> None:
    running = Running(url, sweep_s=0.1)
    try:
        dataset = put_dataset(running.rig.store, separable(2))
        job, _ = running.rig.jobs.create("feature_set", "default", {"dataset": dataset.id})
        running.rig.wait(job.id, JobState.SUCCEEDED, timeout_s=10)
        assert running.rig.jobs.unsure(0.0) == []
    finally:
        running.close()


def test_dead_letters_are_in_the_metrics_of_a_worker(running: Running) -> None:
    (body,) = running.directory.workers()
    assert 'offshelf_dead_letters{queue="bulk"} 0.0' in body.metrics


def test_a_heartbeat_that_fails_is_not_the_last(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = threading.Event()
    publish = running.directory.publish
    failures = [DependencyError("away"), RuntimeError("a bug")]

    def unreliable(*told: object) -> None:
        if failures:
            raise failures.pop()
        publish(*told)  # type: ignore[arg-type]
        published.set()

    monkeypatch.setattr(running.directory, "publish", unreliable)
    assert published.wait(5)

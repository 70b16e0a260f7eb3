"""What must survive: killed workers, a killed Redis, SIGTERM and cancellation, all for real."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from offshelf_client import Client, Job, JobCancelledError, Timeout
from tests.e2e.pictures import varied, write_digits
from tests.serving import Service, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

WEIGHTS = "random:0"
PER_CLASS, CLASSES = 16, 8


def connect(service: Service) -> Client:
    return Client(service.url, timeout=Timeout(60))


def start_head_job(client: Client, folder: Path) -> Job:
    """A job that takes some seconds: 128 digits through random SqueezeNet, then a linear SVM."""
    write_digits(folder, PER_CLASS, CLASSES)
    dataset = client.datasets.upload(folder, name="digits")
    return client.heads.train(
        dataset,
        backbone="squeezenet1_0",
        weights=WEIGHTS,
        tap="fire9",
        pool="avg",
        split={"train_per_class": 8, "seed": 0},
    )


def in_the_middle(job: Job) -> bool:
    """Some shards are done, not all."""
    job.refresh()
    return 0 < job.status.done < PER_CLASS * CLASSES


def assert_ended_right(client: Client, job: Job) -> None:
    status = job.wait(timeout=150).status
    assert (status.total, status.done, status.failed) == (PER_CLASS * CLASSES, status.total, 0)
    assert [head.id for head in client.heads.list()] == [job.head().id]
    head = job.head()
    assert head.report.train.images == 8 * CLASSES
    assert head.report.test is not None
    assert head.report.test.accuracy > 2 / CLASSES  # random features still tell digits apart


def test_job_ends_right_after_its_worker_is_killed(fragile: Service, tmp_path: Path) -> None:
    with connect(fragile) as client:
        job = start_head_job(client, tmp_path / "digits")
        eventually(lambda: in_the_middle(job), "the job is in the middle")
        fragile.kill(fragile.pid_of("worker"))
        assert_ended_right(client, job)


def test_job_ends_right_after_its_redis_is_killed(fragile: Service, tmp_path: Path) -> None:
    with connect(fragile) as client:
        job = start_head_job(client, tmp_path / "digits")
        eventually(lambda: in_the_middle(job), "the job is in the middle")
        time.sleep(1.2)  # appendfsync everysec: what was acknowledged by now is on disk
        fragile.kill(fragile.redis_pid())
        eventually(fragile.ready, "Redis is back and so is the service")
        assert_ended_right(client, job)


def test_sigterm_drains_and_the_next_start_finishes_the_job(
    fragile: Service, tmp_path: Path
) -> None:
    with connect(fragile) as client:
        job = start_head_job(client, tmp_path / "digits")
        eventually(lambda: in_the_middle(job), "the job is in the middle")
    parts = psutil.Process(fragile.process.pid).children(recursive=True)
    redis = fragile.redis_pid()
    fragile.process.send_signal(signal.SIGTERM)
    assert fragile.process.wait(90) == 0
    assert not [part for part in parts if part.is_running()]
    assert not psutil.pid_exists(redis), "the embedded server is stopped too, last"
    with Service(fragile.data_dir, fragile.settings) as again, connect(again) as client:
        assert_ended_right(client, client.jobs.get(job.id))


def test_cancel_ends_a_running_training(fragile: Service, tmp_path: Path) -> None:
    with connect(fragile) as client:
        write_digits(tmp_path / "digits", 60)
        dataset = client.datasets.upload(tmp_path / "digits", name="digits")
        # Unscaled 9,216-dimensional features and an enormous C: liblinear is busy for minutes.
        job = client.heads.train(
            dataset,
            backbone="alexnet",
            weights=WEIGHTS,
            tap="pool5",
            kind="logreg",
            C=1e12,
        )
        worker = psutil.Process(fragile.pid_of("worker"))
        child = eventually(
            lambda: [c for c in worker.children() if "offshelf.heads.fit" in c.cmdline()],
            "the training child runs",
            90,
        )[0]
        job.cancel()
        with pytest.raises(JobCancelledError):
            job.wait(timeout=30)
        assert job.state == "cancelled"
        eventually(lambda: not child.is_running(), "the child is gone", 10)
        assert list(client.heads.list()) == []
        assert fragile.pid_of("worker") == worker.pid, "the worker itself lives on"


def test_interactive_requests_survive_a_killed_worker(fragile: Service) -> None:
    images = varied(4)
    with connect(fragile) as client:
        before = client.features(images, backbone="squeezenet1_0", weights=WEIGHTS, taps="logits")
        fragile.kill(fragile.pid_of("worker"))
        after = client.features(images, backbone="squeezenet1_0", weights=WEIGHTS, taps="logits")
    assert after.fingerprints == before.fingerprints
    np.testing.assert_allclose(after["logits"], before["logits"], rtol=1e-4, atol=1e-5)

"""A job that is hurt ends with the features of one that is not: real processes, random moments.

The default tier runs a round of each; `pytest -m "large or processes"` on this file all ten.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import closing
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest
import redis

from offshelf.queue.embedded import socket_path
from offshelf_client import JobCancelledError, JobFailedError
from tests.e2e.bulk import (
    JOB_S,
    SETTINGS,
    SHARD,
    Extracted,
    Extraction,
    items_by_worker,
    reach,
    seeded,
    uploaded,
    write_mixed,
)
from tests.serving import Service, can_have_own_disk, eventually

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from offshelf_client import Job, JobStatus

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

# Fixed batches (`deterministic`) give the same bytes; with free ones rows differ in the last digit.
FREE, FIXED = False, True
ROUNDS: Final = pytest.mark.parametrize(
    ("round_", "fixed"),
    [
        pytest.param(n, fixed, marks=[pytest.mark.large] if (n, fixed) != (0, FREE) else [])
        for fixed in (FREE, FIXED)
        for n in range(10)
    ],
)
# About what a shard takes: a fault comes at any moment of it.
SHARD_S: Final = 0.3
# The most that a file of a process may have on a disk that is "full"; a shard has 32 KiB.
FULL_BYTES: Final = 20 << 10
DISK_MB: Final = 128
# How long a disk stays full at most: some steps use up their tries, some do not.
FULL_S: Final = 6.0
# Shards that a worker has under way at most.
IN_FLIGHT: Final = 8 * SHARD


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixed(tmp_path_factory.mktemp("mixed") / "images")


@pytest.fixture(scope="module")
def undisturbed_run(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], Extracted]:
    """What the job makes if nothing happens to it, with fixed or with free batches."""

    @cache
    def run(fixed: bool) -> Extracted:
        data = tmp_path_factory.mktemp("undisturbed") / "data"
        with Service(data, dict(SETTINGS)) as service, uploaded(service, images) as whole:
            return whole.finish(whole.start(deterministic=fixed))

    return run


@pytest.fixture
def undisturbed(undisturbed_run: Callable[[bool], Extracted], fixed: bool) -> Extracted:
    return undisturbed_run(fixed)


@pytest.fixture
def hurt(images: Path, tmp_path: Path, undisturbed: Extracted) -> Iterator[Extraction]:
    """A service to be hurt, and no other beside it."""
    data = tmp_path / "data"
    with Service(data, dict(SETTINGS)) as service, uploaded(service, images) as whole:
        yield whole


def assert_alike(found: Extracted, wanted: Extracted, *, fixed: bool) -> None:
    if fixed:
        found.assert_identical(wanted)
    else:
        found.assert_same(wanted)


def somewhere(hurt: Extraction, job: Job, chance: random.Random) -> None:
    """Come to a random moment of a job, from its planning to four fifths of it."""
    images, pause_s = chance.randrange(int(0.8 * hurt.dataset.total)), chance.uniform(0, SHARD_S)
    print(f"a fault {pause_s:.3f} s after image {images} of {hurt.dataset.total}")
    reach(job, images)
    time.sleep(pause_s)  # not for something to happen: it is the moment


@ROUNDS
def test_worker_killed(hurt: Extraction, undisturbed: Extracted, round_: int, fixed: bool) -> None:
    job = hurt.start(deterministic=fixed)
    somewhere(hurt, job, seeded(round_))
    hurt.service.kill(hurt.service.pid_of("worker"))
    assert not job.refresh().status.finished, "the fault came too late to show anything"
    assert_alike(hurt.finish(job), undisturbed, fixed=fixed)


@ROUNDS
def test_redis_killed(hurt: Extraction, undisturbed: Extracted, round_: int, fixed: bool) -> None:
    job = hurt.start(deterministic=fixed)
    until_on_disk(hurt.service)
    somewhere(hurt, job, seeded(round_))
    hurt.service.kill(hurt.service.redis_pid())
    eventually(hurt.service.ready, "Redis is back and so is the service")
    assert_alike(hurt.finish(job), undisturbed, fixed=fixed)


@ROUNDS
def test_worker_stopped_by_sigterm(
    hurt: Extraction, undisturbed: Extracted, round_: int, fixed: bool
) -> None:
    job = hurt.start(deterministic=fixed)
    somewhere(hurt, job, seeded(round_))
    worker = hurt.service.pid_of("worker")
    os.kill(worker, signal.SIGTERM)
    assert not job.refresh().status.finished, "the fault came too late to show anything"
    assert_alike(hurt.finish(job), undisturbed, fixed=fixed)
    assert hurt.service.pid_of("worker") != worker


@ROUNDS
def test_cancelled_and_resumed(
    hurt: Extraction, undisturbed: Extracted, round_: int, fixed: bool
) -> None:
    job = hurt.start(deterministic=fixed)
    chance = seeded(round_)
    reach(job, IN_FLIGHT + SHARD)  # more than is lost: what is done again would show
    somewhere(hurt, job, chance)
    job.cancel()
    with pytest.raises(JobCancelledError):
        job.wait(timeout=30)
    assert_alike(hurt.finish(hurt.start(deterministic=fixed)), undisturbed, fixed=fixed)
    total = hurt.dataset.total
    made = eventually(lambda: at_least(hurt.service, total), "everything is counted")
    assert made <= total + IN_FLIGHT, "what the first job made was made again"


@ROUNDS
def test_store_full(hurt: Extraction, undisturbed: Extracted, round_: int, fixed: bool) -> None:
    """The system refuses the worker's writes: it may write no file of the size of a shard."""
    job = hurt.start(deterministic=fixed)
    chance = seeded(round_)
    somewhere(hurt, job, chance)
    worker = psutil.Process(hurt.service.pid_of("worker"))
    limit = partial(limit_files, worker)
    limit(FULL_BYTES)
    if chance.random() < 0.5:
        print("there is space again after the first failed try")
        eventually(lambda: job.refresh().status.attempts > 1, "a write has failed")
        limit(None)
    else:
        print("there is space again after the job has failed")
        with pytest.raises(JobFailedError, match="the store is full"):
            job.wait(timeout=60)
        limit(None)
        job = hurt.start(deterministic=fixed)
    assert_alike(hurt.finish(job), undisturbed, fixed=fixed)
    assert worker.is_running(), "a full store ends no worker"


@ROUNDS
def test_disk_full(
    images: Path, undisturbed: Extracted, tmp_path: Path, round_: int, fixed: bool
) -> None:
    """A disk without a byte left, the store's and the embedded server's."""
    if not can_have_own_disk():
        pytest.skip("no process may have a disk of its own here (unshare --user)")
    chance = seeded(round_)
    with (
        Service(tmp_path / "data", dict(SETTINGS), disk_mb=DISK_MB) as service,
        uploaded(service, images) as hurt,
    ):
        parts = [service.process.pid, service.pid_of("worker"), service.pid_of("api")]
        job = hurt.start(deterministic=fixed)
        somewhere(hurt, job, chance)
        filler = service.files / "filler"
        fill(filler)
        eventually(lambda: "No space left" in service.log_path.read_text(), "a write has failed")
        time.sleep(chance.uniform(0, FULL_S))  # not for something to happen
        filler.unlink()
        eventually(service.ready, "the service is ready again")
        status = eventually(lambda: ended(job), "the job has ended", JOB_S)
        if status.state == "failed":
            assert "the store is full" in str(status.error)
            job = hurt.start(deterministic=fixed)
        assert_alike(hurt.finish(job), undisturbed, fixed=fixed)
        still = [service.process.pid, service.pid_of("worker"), service.pid_of("api")]
        assert still == parts, "a full disk ends no process"


def ended(job: Job) -> JobStatus | None:
    status = job.refresh().status
    return status if status.finished else None


def fill(path: Path) -> None:
    """Write until the system says that there is no space."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def limit_files(process: psutil.Process, size: int | None) -> None:
    """Let the system refuse a running process to make a file larger than that; EFBIG."""
    _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (hard if size is None else size, hard))


def until_on_disk(service: Service) -> None:
    """Wait until all that the embedded server has acknowledged is on its disk."""
    path = socket_path(service.data_dir / "valkey")
    with closing(redis.Redis(unix_socket_path=str(path))) as client:
        client.set("offshelf-test:on-disk", "1")
        answer: Any = client.execute_command("WAITAOF", 1, 0, 5000)
        assert answer[0] == 1


def at_least(service: Service, wanted: int) -> int:
    """How many images of jobs were worked on, once those are so many; 0 until then."""
    worked_on = items_by_worker(service).total()
    return worked_on if worked_on >= wanted else 0

"""Two workers share a job, and one that comes in mid-job takes its part, by what each counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.bulk import (
    SETTINGS,
    Extracted,
    Extraction,
    items_by_worker,
    reach,
    uploaded,
    write_mixed,
)
from tests.serving import Service, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

GOOD: Final = 960  # a second worker needs some seconds to start


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Extraction]:
    folder = write_mixed(tmp_path / "images", GOOD)
    with Service(tmp_path / "data", dict(SETTINGS)) as service, uploaded(service, folder) as whole:
        yield whole


def both_there(whole: Extraction) -> None:
    eventually(lambda: len(whole.client.health()["workers"]) == 2, "both workers are there")


def parts(whole: Extraction) -> list[int]:
    """How many items each worker made, once all are counted; none was made twice."""
    total = whole.dataset.total
    counts = eventually(
        lambda: (c := items_by_worker(whole.service)).total() >= total and c, "all are counted"
    )
    assert counts.total() == total
    return sorted(counts.values())


def assert_whole(found: Extracted, whole: Extraction) -> None:
    assert len(found.kept) + len(found.errors) == whole.dataset.total
    assert {number for number, path in enumerate(found.paths) if "photo-" in path} <= set(
        found.kept
    )


def test_two_workers_share_a_job(shared: Extraction) -> None:
    with shared.service.another_worker():
        both_there(shared)
        found = shared.finish(shared.start())
        fewer, more = parts(shared)
    assert_whole(found, shared)
    assert fewer >= shared.dataset.total // 5, (fewer, more)


def test_a_worker_that_comes_in_mid_job_takes_its_part(shared: Extraction) -> None:
    job = shared.start()
    reach(job, 1)
    with shared.service.another_worker():
        both_there(shared)
        assert not job.refresh().status.finished, "the job was too short to show anything"
        found = shared.finish(job)
        fewer, _ = parts(shared)
    assert_whole(found, shared)
    assert fewer > 0, "the second worker has done nothing"

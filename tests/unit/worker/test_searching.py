"""What a job tells of its search for C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from offshelf.errors import DependencyError
from offshelf.heads.fit import Progress
from offshelf.schemas.learning import Learning
from offshelf.worker.searching import telling

if TYPE_CHECKING:
    from collections.abc import Mapping

CHOOSING = Learning(C={"choose": [0.1, 1.0]})
IMAGES = (30, 28, 2)


class Told:
    """Keeps what was said of a job; with `broken`, Redis is away."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.events: list[tuple[Any, ...]] = []

    def progress(
        self, job_id: str, stage: str, total: int, done: int, failed: int,
        fit: Mapping[str, float | None] | None = None,
    ) -> None:  # fmt: skip
        if self.broken:
            raise DependencyError("away")
        self.events.append((job_id, stage, total, done, failed, fit))


def at(done: int) -> Progress:
    return Progress(done=done, total=10, C=0.1, fold=2, score=0.5)


def test_fits_are_told_now_and_then_and_the_last_one_always() -> None:
    jobs, clock = Told(), [0.0]
    with telling(jobs, "j1", CHOOSING, IMAGES, lambda: clock[0]) as told:  # type: ignore[arg-type]
        for done, clock[0] in ((1, 0.0), (2, 0.1), (3, 0.4), (4, 0.6), (9, 0.7), (10, 0.8)):
            told(at(done))
    fit = {"C": 0.1, "fold": 2, "score": 0.5}
    assert jobs.events == [
        *[("j1", "choosing C", 10, done, 0, fit) for done in (1, 4, 10)],
        ("j1", "training", 30, 28, 2, None),
    ]


def test_the_images_are_counted_again_however_it_ends() -> None:
    jobs = Told()
    with (
        pytest.raises(RuntimeError),
        telling(jobs, "j1", CHOOSING, IMAGES),  # type: ignore[arg-type]
    ):
        raise RuntimeError
    assert jobs.events == [("j1", "training", 30, 28, 2, None)]


def test_without_a_search_nothing_is_told() -> None:
    jobs = Told()
    with telling(jobs, "j1", Learning(), IMAGES):  # type: ignore[arg-type]
        pass
    assert jobs.events == []


def test_the_search_goes_on_without_redis() -> None:
    with telling(Told(broken=True), "j1", CHOOSING, IMAGES) as told:  # type: ignore[arg-type]
        told(at(1))

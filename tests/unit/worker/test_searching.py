"""What a job tells of its search for C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.errors import DependencyError
from offshelf.heads.fit import Progress
from offshelf.worker.searching import telling

if TYPE_CHECKING:
    from collections.abc import Mapping


class Told:
    """Keeps what was said of a job; with `broken`, Redis is away."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.events: list[tuple[str, Mapping[str, float | None]]] = []

    def searched(self, job_id: str, search: Mapping[str, float | None]) -> None:
        self.events.append((job_id, search))
        if self.broken:
            raise DependencyError("away")


def at(done: int) -> Progress:
    return Progress(done=done, total=10, C=0.1, fold=2, score=0.5)


def test_fits_are_told_now_and_then_and_the_last_one_always() -> None:
    jobs, clock = Told(), [0.0]
    told = telling(jobs, "j1", lambda: clock[0])  # type: ignore[arg-type]
    for done, clock[0] in ((1, 0.0), (2, 0.1), (3, 0.4), (4, 0.6), (9, 0.7), (10, 0.8)):
        told(at(done))
    last = {"total": 10, "C": 0.1, "fold": 2, "score": 0.5}
    assert jobs.events == [("j1", {"done": done, **last}) for done in (1, 4, 10)]


def test_the_search_goes_on_without_redis() -> None:
    jobs = Told(broken=True)
    telling(jobs, "j1")(at(1))  # type: ignore[arg-type]
    assert len(jobs.events) == 1

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from offshelf.errors import UnknownName, WeightsMissing
from offshelf.queue.tasks import Step
from offshelf.worker import handing_on
from offshelf.worker.handing_on import HandingOn
from tests.unit.worker.fakes import ListQueue


@dataclass
class Steps:
    """Has no weights until told otherwise."""

    weights: bool = False
    done: list[tuple[object, ...]] = field(default_factory=list)

    def start(self, job_id: str) -> None:
        self._do("start", job_id)

    def shard(self, job_id: str, index: int) -> None:
        self._do("shard", job_id, index)

    def finish(self, job_id: str) -> None:
        self.done.append(("finish", job_id))

    def train(self, job_id: str) -> None:
        self.done.append(("train", job_id))

    def fail(self, job_id: str, error: BaseException) -> None:
        self.done.append(("fail", job_id, error))

    def _do(self, *what: object) -> None:
        if not self.weights:
            raise WeightsMissing("not here")
        self.done.append(what)


@dataclass
class Records:
    """Job records as far as they are asked for."""

    params: dict[str, object] | None = field(default_factory=lambda: {"backbone": "vgg16"})
    tries: Counter[str] = field(default_factory=Counter)

    def get(self, job_id: str) -> SimpleNamespace:
        if self.params is None:
            raise UnknownName(job_id)
        return SimpleNamespace(params=self.params)

    def tried(self, job_id: str, step: str) -> int:
        self.tries[step] += 1
        return self.tries[step]


def rig(
    elsewhere: set[str | None], steps: Steps | None = None, records: Records | None = None
) -> tuple[HandingOn, ListQueue, Steps]:
    queue, steps = ListQueue(), steps or Steps()
    made = HandingOn(steps, records or Records(), queue, lambda name: name in elsewhere)  # type: ignore[arg-type]
    return made, queue, steps


def test_steps_whose_weights_another_worker_has_go_on_to_it() -> None:
    handler, queue, steps = rig({"vgg16"})
    handler.start("j")
    handler.shard("j", 3)
    assert queue.steps == [(Step.START, "j", None), (Step.SHARD, "j", 3)]
    assert steps.done == []


def test_what_can_be_done_here_is_done_here() -> None:
    handler, queue, steps = rig({"vgg16"}, Steps(weights=True))
    handler.start("j")
    handler.shard("j", 3)
    handler.finish("j")
    handler.train("j")
    assert steps.done == [("start", "j"), ("shard", "j", 3), ("finish", "j"), ("train", "j")]
    assert queue.steps == []


@pytest.mark.parametrize("elsewhere", [set(), {"alexnet"}, {None}])
def test_where_nobody_has_the_weights_the_error_stays(elsewhere: set[str | None]) -> None:
    handler, queue, _ = rig(elsewhere)
    with pytest.raises(WeightsMissing):
        handler.start("j")
    assert queue.steps == []


def test_a_job_without_a_backbone_means_the_default() -> None:
    handler, queue, _ = rig({None}, records=Records({}))
    handler.start("j")
    assert queue.steps == [(Step.START, "j", None)]


def test_it_does_not_go_round_for_ever() -> None:
    handler, queue, _ = rig({"vgg16"})
    for _ in range(handing_on.MAX_HOPS):
        handler.shard("j", 0)
    with pytest.raises(WeightsMissing):
        handler.shard("j", 0)
    handler.shard("j", 1)  # another shard has hops of its own
    assert len(queue.steps) == handing_on.MAX_HOPS + 1


def test_a_record_that_has_expired_is_the_end_of_it() -> None:
    handler, queue, _ = rig({"vgg16"}, records=Records(None))
    handler.start("j")
    assert queue.steps == []

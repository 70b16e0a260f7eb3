from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from offshelf.errors import UnknownName, WeightsMissing
from offshelf.queue.tasks import Step
from offshelf.worker.handing_on import HandingOn
from tests.unit.worker.fakes import ListQueue

if TYPE_CHECKING:
    from offshelf.core.routing import Takes


@dataclass
class Steps:
    """Fails with `fault` until that is cleared."""

    fault: Exception | None = None
    done: list[tuple[object, ...]] = field(default_factory=list)
    tries: int = 0

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
        self.tries += 1
        if self.fault is not None:
            raise self.fault
        self.done.append(what)


@dataclass
class FakeDuty:
    """`elsewhere`: what another worker has; `cards`: the names that this one knows."""

    elsewhere: set[tuple[str | None, str | None]] = field(default_factory=set)
    cards: set[str | None] = field(default_factory=lambda: {"vgg16", None})
    lacking: set[tuple[str | None, str | None]] = field(default_factory=set)

    def takes(self, crowded: object = ()) -> Takes:
        raise AssertionError("nobody asks here")

    def lacks(self, backbone: str | None, weights: str | None) -> str | None:
        self.lacking.add((backbone, weights))
        return backbone or "default" if (backbone, weights) in self.elsewhere else None

    def is_elsewhere_alone(self, backbone: str | None, weights: str | None) -> bool:
        asked = (backbone, weights)
        return asked in self.lacking and asked in self.elsewhere

    def knows(self, backbone: str | None) -> bool:
        return backbone in self.cards


@dataclass
class Rig:
    """A job for `params` (None: its record has expired) on a worker."""

    params: dict[str, object] | None = field(default_factory=lambda: {"backbone": "vgg16"})
    duty: FakeDuty = field(default_factory=FakeDuty)
    steps: Steps = field(default_factory=lambda: Steps(WeightsMissing("not here")))
    queue: ListQueue = field(default_factory=ListQueue)

    def __post_init__(self) -> None:
        self.handler = HandingOn(self.steps, self, self.queue, self.duty)  # type: ignore[arg-type]

    def get(self, job_id: str) -> SimpleNamespace:
        if self.params is None:
            raise UnknownName(job_id)
        return SimpleNamespace(params=self.params)


def test_steps_whose_weights_another_worker_has_go_on_to_it() -> None:
    rig = Rig(duty=FakeDuty({("vgg16", None)}))
    rig.handler.start("j")
    rig.handler.shard("j", 3)
    assert rig.queue.steps == [(Step.START, "j", None), (Step.SHARD, "j", 3)]
    assert rig.steps.done == []


def test_what_could_not_be_had_a_moment_ago_is_not_tried_again() -> None:
    rig = Rig(duty=FakeDuty({("vgg16", None)}))
    for index in range(200):
        rig.handler.shard("j", index)
    assert len(rig.queue.steps) == 200  # a job never fails while somebody can do it
    assert rig.steps.tries == 1


def test_what_can_be_done_here_is_done_here() -> None:
    rig = Rig(duty=FakeDuty({("vgg16", None)}), steps=Steps())
    rig.handler.start("j")
    rig.handler.shard("j", 3)
    rig.handler.finish("j")
    rig.handler.train("j")
    expected = [("start", "j"), ("shard", "j", 3), ("finish", "j"), ("train", "j")]
    assert rig.steps.done == expected
    assert rig.queue.steps == []


@pytest.mark.parametrize("elsewhere", [set(), {("alexnet", None)}, {("vgg16", "OTHER")}])
def test_where_nobody_has_the_weights_the_error_stays(
    elsewhere: set[tuple[str | None, str | None]],
) -> None:
    rig = Rig(duty=FakeDuty(elsewhere))
    with pytest.raises(WeightsMissing):
        rig.handler.start("j")
    assert rig.queue.steps == []
    assert rig.duty.lacking == {("vgg16", None)}


def test_other_weights_of_a_backbone_are_other_weights() -> None:
    asked = {"backbone": "vgg16", "weights": "IMAGENET1K_V2"}
    rig = Rig(asked, FakeDuty({("vgg16", "IMAGENET1K_V2")}))
    rig.handler.start("j")
    assert rig.queue.steps == [(Step.START, "j", None)]


def test_a_network_that_was_brought_to_another_worker_alone_is_done_there() -> None:
    brought = Rig(
        {"backbone": "mine"}, FakeDuty({("mine", None)}), Steps(UnknownName("no backbone 'mine'"))
    )
    brought.handler.start("j")
    assert brought.queue.steps == [(Step.START, "j", None)]


def test_a_wrong_tap_of_a_known_network_is_nobody_elses_business() -> None:
    rig = Rig(duty=FakeDuty({("vgg16", None)}), steps=Steps(UnknownName("no tap 'fc9'")))
    with pytest.raises(UnknownName):
        rig.handler.start("j")
    assert rig.duty.lacking == set()


def test_a_record_that_has_expired_is_the_end_of_it() -> None:
    rig = Rig(None, FakeDuty({("vgg16", None)}))
    rig.handler.start("j")
    assert rig.queue.steps == []
    assert rig.steps.tries == 0

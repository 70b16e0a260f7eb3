from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offshelf.errors import DependencyError, WorkerError
from offshelf.queue.messages import ImageReply, ImageRequest
from offshelf.worker.health import Health
from offshelf.worker.intake import Intake
from offshelf.worker.metrics import WorkerMetrics
from tests.unit.worker.fakes import FakeExtractor, features_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGE = bytes(range(10, 20))


class QueueInbox:
    """`queue.interface.Inbox` over two queues; `away` many calls fail first."""

    def __init__(self) -> None:
        self.requests: queue.Queue[ImageRequest] = queue.Queue()
        self.replies: queue.Queue[tuple[str, ImageReply]] = queue.Queue()
        self.away = 0
        self.broken = False

    def take(self, max_images: int, timeout_s: float) -> list[ImageRequest]:
        self._fail()
        found: list[ImageRequest] = []
        with suppress(queue.Empty):
            found.append(self.requests.get(timeout=min(timeout_s, 0.05)))
            while len(found) < max_images:
                found.append(self.requests.get_nowait())
        return found

    def reply(self, replies: Sequence[tuple[str, ImageReply]]) -> None:
        self._fail()
        for reply in replies:
            self.replies.put(reply)

    def _fail(self) -> None:
        if self.broken:
            raise RuntimeError("a bug")
        if self.away:
            self.away -= 1
            raise DependencyError("away")


class Rig:
    def __init__(self, max_inflight: int = 8) -> None:
        self.inbox = QueueInbox()
        self.extractor = FakeExtractor()
        self.health = Health()
        self.metrics = WorkerMetrics()
        self.intake = Intake(
            self.inbox, self.extractor, self.metrics, max_inflight, self.health, clock=lambda: 100.0
        )

    def send(
        self, index: int, image: bytes = IMAGE, deadline_s: float = 200.0, **params: Any
    ) -> None:
        request = ImageRequest("r", index, "inbox:a", deadline_s, params, image, 99.0)
        self.inbox.requests.put(request)

    def reply(self) -> ImageReply:
        reply_to, reply = self.inbox.replies.get(timeout=10)
        assert reply_to == "inbox:a"
        return reply


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.extractor.hold.set()
    rig.intake.drain(5)
    rig.extractor.close(5)


def test_an_image_is_answered_with_its_rows_and_what_made_them(rig: Rig) -> None:
    rig.intake.start()
    rig.send(3, taps=["fc7", "conv5"])
    reply = rig.reply()
    assert (reply.request_id, reply.index, reply.error) == ("r", 3, None)
    assert (reply.backbone, reply.weights["random"]) == ("fakenet", True)
    np.testing.assert_array_equal(reply.rows["conv5"].values, features_of(IMAGE, "conv5"))
    assert reply.rows["fc7"].spec["tap"] == "fc7"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"backbone": "nonet"}, "unknown_name"),
        ({"view": "sideways"}, "invalid_parameter"),
        ({"unknown": 1}, "invalid_parameter"),
    ],
)
def test_what_cannot_be_resolved_is_an_error_for_every_image(
    rig: Rig, params: dict[str, Any], code: str
) -> None:
    rig.send(0, **params)
    rig.send(1, **params)
    rig.send(2)
    rig.intake.start()
    replies = sorted((rig.reply() for _ in range(3)), key=lambda reply: reply.index)
    assert [reply.error and reply.error.code for reply in replies] == [code, code, None]


def test_a_bad_image_fails_alone(rig: Rig) -> None:
    rig.intake.start()
    rig.send(0, image=b"bad")
    rig.send(1)
    replies = sorted((rig.reply() for _ in range(2)), key=lambda reply: reply.index)
    assert [reply.error and reply.error.code for reply in replies] == ["invalid_image", None]
    assert not rig.health.wait(0)


def test_an_error_of_ours_is_bland_for_the_client_and_makes_the_device_suspect(rig: Rig) -> None:
    rig.extractor.faults = [WorkerError("secret detail")]
    rig.intake.start()
    rig.send(0)
    error = rig.reply().error
    assert error is not None
    assert "secret" not in error.message
    assert rig.health.wait(5)


def test_images_whose_client_has_gone_are_not_computed(rig: Rig) -> None:
    rig.send(0, deadline_s=99.9)
    rig.send(1)
    rig.intake.start()
    assert rig.reply().index == 1
    assert rig.extractor.submitted == 1
    assert 'offshelf_images_total{outcome="expired"} 1.0' in rig.metrics.text()


def test_it_takes_only_what_it_has_room_for() -> None:
    rig = Rig(max_inflight=3)
    rig.extractor.hold.clear()
    for index in range(5):
        rig.send(index)
    rig.intake.start()
    deadline_s = time.monotonic() + 10
    while rig.extractor.submitted < 3:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    assert (rig.intake.inflight, rig.inbox.requests.qsize()) == (3, 2)
    rig.extractor.hold.set()
    assert {rig.reply().index for _ in range(5)} == set(range(5))
    assert rig.intake.drain(5)
    rig.extractor.close(5)


def test_draining_answers_what_was_taken_and_takes_no_more(rig: Rig) -> None:
    rig.extractor.hold.clear()
    rig.send(0)
    rig.intake.start()
    while not rig.extractor.submitted:
        time.sleep(0.005)
    rig.extractor.hold.set()
    assert rig.intake.drain(10)
    rig.send(1)
    assert rig.reply().index == 0
    assert rig.inbox.requests.qsize() == 1


def test_redis_away_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offshelf.worker.intake.RECONNECT_S", 0.01)
    rig.inbox.away = 3
    rig.intake.start()
    rig.send(0)
    assert rig.reply().error is None
    assert not rig.health.is_broken


def test_a_dead_thread_ends_the_worker_and_is_not_kept_quiet(rig: Rig) -> None:
    rig.inbox.broken = True
    rig.intake.start()
    assert rig.health.wait(10)
    assert rig.health.is_broken
    assert rig.health.detail == "RuntimeError: a bug"

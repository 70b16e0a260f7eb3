from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offshelf.core.routing import Takes
from offshelf.errors import DependencyError, WorkerError
from offshelf.queue.messages import ImageReply, ImageRequest, TapRow
from offshelf.worker.content_cache import ContentCache
from offshelf.worker.health import Health
from offshelf.worker.intake import Intake
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.replies import ReplySender
from tests.unit.worker.fakes import FakeExtractor, features_of
from tests.unit.worker.test_content_cache import DictValues

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

IMAGE = bytes(range(10, 20))
TAKES = Takes(("-", "fakenet"))


class QueueInbox:
    """`queue.interface.Inbox` over two queues; `away` many calls fail first."""

    def __init__(self) -> None:
        self.requests: queue.Queue[ImageRequest] = queue.Queue()
        self.replies: queue.Queue[tuple[str, ImageReply]] = queue.Queue()
        self.away = 0
        self.broken = False
        self.left: dict[str, float] = {}
        self.groups: list[int] = []
        self.back: list[tuple[str, list[int]]] = []

    def take(self, max_images: int, timeout_s: float, takes: Takes) -> list[ImageRequest]:
        assert takes is TAKES
        self._fail()
        found: list[ImageRequest] = []
        with suppress(queue.Empty):
            found.append(self.requests.get(timeout=min(timeout_s, 0.05)))
            while len(found) < max_images:
                found.append(self.requests.get_nowait())
        return found

    def reply(self, replies: Sequence[tuple[str, ImageReply]]) -> None:
        self._fail()
        self.groups.append(len(replies))
        for reply in replies:
            self.replies.put(reply)

    def put_back(self, route: str, requests: Sequence[ImageRequest]) -> None:
        self._fail()
        self.back.append((route, [request.index for request in requests]))

    def gone(self, request_ids: Collection[str]) -> dict[str, float]:
        return {name: since for name, since in self.left.items() if name in request_ids}

    def _fail(self) -> None:
        if self.broken:
            raise RuntimeError("a bug")
        if self.away:
            self.away -= 1
            raise DependencyError("away")


class FakeDuty:
    """Takes what is there; says who has what is lacking here."""

    def __init__(self) -> None:
        self.elsewhere: str | None = None
        self.lacking: list[str | None] = []
        self.crowded: list[tuple[Any, Any]] = []

    def takes(self, crowded: Sequence[tuple[Any, Any]] = ()) -> Takes:
        self.crowded = list(crowded)
        return TAKES

    def lacks(self, backbone: str | None, weights: str | None) -> str | None:
        self.lacking.append(backbone)
        return self.elsewhere

    def is_elsewhere_alone(self, backbone: str | None, weights: str | None) -> bool:
        return False

    def knows(self, backbone: str | None) -> bool:
        return True


class Rig:
    def __init__(self, max_inflight: int = 8, cache: ContentCache | None = None) -> None:
        self.inbox = QueueInbox()
        self.extractor = FakeExtractor()
        self.health = Health()
        self.metrics = WorkerMetrics()
        self.duty = FakeDuty()
        self.intake = Intake(
            self.inbox,
            self.extractor,
            self.metrics,
            max_inflight,
            self.health,
            self.duty,
            clock=lambda: 100.0,
            max_answer_bytes=1000,
            cache=cache,
        )

    def send(
        self,
        index: int,
        image: bytes = IMAGE,
        deadline_s: float = 200.0,
        images: int = 1,
        sent_s: float = 99.0,
        **params: Any,
    ) -> None:
        request = ImageRequest("r", index, "inbox:a", deadline_s, params, image, sent_s, images)
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
    rig.extractor.loading.set()
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
        ({"backbone": ["fakenet"]}, "invalid_parameter"),
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


def test_work_does_not_go_on_after_the_client_left(rig: Rig) -> None:
    rig.inbox.left = {"r": 99.5}
    rig.send(0)
    rig.send(1, sent_s=99.6)  # the id again, for another request
    rig.intake.start()
    assert rig.reply().index == 1
    assert rig.extractor.submitted == 1
    assert 'offshelf_images_total{outcome="gone"} 1.0' in rig.metrics.text()


def test_a_backbone_that_loads_holds_up_nobody_else(rig: Rig) -> None:
    rig.extractor.loading.clear()
    rig.intake.start()
    for seed in range(8):  # as many as there are threads for loads, each asked in many ways
        rig.send(seed, weights=f"random:{seed}")
    while len(rig.extractor.resolved) < 8:
        time.sleep(0.005)
    rig.intake._max_inflight = 100
    for way in range(8):
        rig.send(10 + way, weights="random:0", pool=f"grid:{way + 1}")
    rig.send(99)
    assert rig.reply().index == 99
    assert len(rig.extractor.resolved) == 9  # who asks for what is being loaded waits in a list
    rig.extractor.loading.set()
    assert {rig.reply().index for _ in range(16)} == {*range(8), *range(10, 18)}


def test_an_answer_over_the_limit_is_refused_with_what_would_fit(rig: Rig) -> None:
    rig.intake.start()
    rig.send(0, images=21, taps=["fc7", "conv5"])  # 48 bytes an image
    error = rig.reply().error
    assert error is not None
    assert error.code == "too_large"
    assert "1008 bytes (48 an image) and the limit is 1000: ask for at most 20" in error.message
    rig.send(0, images=20, taps=["fc7", "conv5"])
    assert rig.reply().error is None
    assert rig.extractor.submitted == 1


def test_replies_go_in_groups_that_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offshelf.worker.replies.GROUP_BYTES", 250)
    inbox = QueueInbox()
    sender = ReplySender(inbox, Health())
    row = TapRow({}, "f", np.zeros(25, np.float32))
    for index in range(8):
        sender.send("inbox:a", ImageReply("r", index, rows={"fc7": row}))
    sender.start()
    assert sender.stop(10)
    assert inbox.groups == [3, 3, 2]


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
    monkeypatch.setattr("offshelf.worker.replies.RECONNECT_S", 0.01)
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


def test_what_only_another_worker_has_weights_for_is_left_to_it(rig: Rig) -> None:
    rig.extractor.missing = True
    rig.duty.elsewhere = "fakenet"
    for index in range(3):
        rig.send(index, backbone="fakenet")
    rig.intake.start()
    give_up_s = time.monotonic() + 10
    while sum(len(indices) for _, indices in rig.inbox.back) < 3 or rig.intake.inflight:
        assert time.monotonic() < give_up_s
        time.sleep(0.005)
    assert {route for route, _ in rig.inbox.back} == {"fakenet"}
    assert [index for _, indices in rig.inbox.back for index in indices] == [0, 1, 2]
    assert rig.inbox.replies.empty()
    assert set(rig.duty.lacking) == {"fakenet"}


@pytest.mark.parametrize("elsewhere", [None, "fakenet"])
def test_weights_that_nobody_has_are_told_and_so_is_what_cannot_be_put_back(
    rig: Rig, elsewhere: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_route: str, _requests: Sequence[ImageRequest]) -> None:
        raise DependencyError("away")

    monkeypatch.setattr(rig.inbox, "put_back", away)
    rig.extractor.missing = True
    rig.duty.elsewhere = elsewhere
    rig.send(0)
    rig.intake.start()
    error = rig.reply().error
    assert error is not None
    assert (error.code, error.message) == ("weights_missing", "no weights here")


def test_a_slow_load_does_not_keep_those_who_have_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(max_inflight=5)
    moment = [100.0]
    monkeypatch.setattr(rig.intake, "_clock", lambda: moment[0])
    rig.extractor.loading.clear()
    for index in range(4):
        rig.send(index, deadline_s=150.0, weights="random:1", taps=["fc7"])
    rig.intake.start()
    give_up_s = time.monotonic() + 10
    while rig.intake.inflight < 4:
        assert time.monotonic() < give_up_s
        time.sleep(0.005)
    while rig.duty.crowded != [(None, "random:1")]:  # no more of these are asked for
        assert time.monotonic() < give_up_s
        time.sleep(0.005)
    moment[0] = 151.0
    rig.send(9, deadline_s=300.0, sent_s=150.5)
    replies = [rig.reply() for _ in range(5)]
    assert {reply.index for reply in replies if reply.error is None} == {9}
    codes = {reply.error.code for reply in replies if reply.error is not None}
    assert codes == {"deadline_exceeded"}
    rig.extractor.loading.set()
    rig.intake.drain(5)
    rig.extractor.close(5)


def test_an_image_that_was_seen_is_answered_without_the_device() -> None:
    values = DictValues()
    cache = ContentCache(values, WorkerMetrics())
    rig = Rig(cache=cache)
    rig.intake.start()
    rig.send(0, taps=["fc7", "conv5"])
    first = rig.reply()
    assert values.written.wait(20)
    rig.send(1, taps=["fc7", "conv5"])
    again = rig.reply()
    assert rig.extractor.submitted == 1
    assert (rig.intake.answered, rig.intake.proofs) == (2, 1)
    assert again.index == 1
    assert (again.backbone, again.weights) == (first.backbone, first.weights)
    for tap, row in first.rows.items():
        assert again.rows[tap].fingerprint == row.fingerprint
        assert again.rows[tap].values.tobytes() == row.values.tobytes()
    rig.send(2, taps=["fc7"], view="warp")
    rig.reply()
    assert rig.extractor.submitted == 2, "another FeatureSpec is another feature"
    rig.send(3, image=b"bad image", taps=["fc7"])
    rig.send(4, image=b"bad image", taps=["fc7"])
    assert {rig.reply().error.code for _ in range(2)} == {"invalid_image"}
    rig.intake.drain(5)
    rig.extractor.close(5)
    cache.close(5)

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from offshelf.errors import UnknownName
from offshelf.queue import connection
from offshelf.queue.selftests import RedisSelfTests
from offshelf.schemas.health import SelfTestReport
from offshelf.worker.selftesting import SelfTesting

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tester:
    """Passes for what it knows."""

    def run(self, backbone: str | None, weights: str | None, timeout_s: float) -> SelfTestReport:
        if backbone == "nonet":
            raise UnknownName("no backbone named 'nonet'")
        if backbone == "bug":
            raise ZeroDivisionError("a secret")
        return SelfTestReport(backbone=backbone or "default", weights=weights or "", passed=True)


@pytest.fixture
def workers(url: str) -> Iterator[list[str]]:
    clients = [connection.connect(url, connection.STATE) for _ in range(2)]
    serving = [
        SelfTesting(name, RedisSelfTests(client), Tester())
        for name, client in zip(("w1", "w2"), clients, strict=True)
    ]
    for one in serving:
        one.start()
    yield ["w1", "w2"]
    for one, client in zip(serving, clients, strict=True):
        one.stop(10)
        client.close()


def asker(url: str) -> RedisSelfTests:
    return RedisSelfTests(connection.connect(url, connection.STATE))


def test_every_worker_answers_for_itself(url: str, workers: list[str]) -> None:
    found = asker(url).ask(workers, "alexnet", "random:0", 20)
    assert sorted(found) == workers
    for name, report in found.items():
        assert (report.worker, report.backbone, report.weights) == (name, "alexnet", "random:0")
        assert report.passed
        assert report.host


@pytest.mark.parametrize(
    ("backbone", "code", "says"),
    [("nonet", "unknown_name", "nonet"), ("bug", "worker_error", "the log has the details")],
)
def test_what_cannot_be_run_is_a_report_and_the_worker_goes_on(
    url: str, workers: list[str], backbone: str, code: str, says: str
) -> None:
    for report in asker(url).ask(workers, backbone, None, 20).values():
        assert not report.passed
        assert report.error is not None
        assert report.error.code == code
        assert says in report.error.message
        assert "secret" not in report.error.message
    assert len(asker(url).ask(workers, None, None, 20)) == 2


def test_several_asks_at_once_get_their_own_answers(url: str, workers: list[str]) -> None:
    found: dict[str, dict[str, SelfTestReport]] = {}

    def ask(name: str) -> None:
        found[name] = asker(url).ask(workers, name, None, 30)

    threads = [threading.Thread(target=ask, args=(f"net{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    for name, reports in found.items():
        assert [report.backbone for report in reports.values()] == [name, name]
    assert len(found) == 6


def test_nobody_waits_for_a_worker_that_is_gone(url: str, workers: list[str]) -> None:
    began_s = time.monotonic()
    found = asker(url).ask([*workers, "gone"], None, None, 2.0)
    assert sorted(found) == workers
    assert time.monotonic() - began_s < 20


def test_an_ask_that_nobody_waits_for_is_not_run(url: str) -> None:
    asker(url).ask(["w1"], "late", None, 0.0)
    with connection.connect(url, connection.STATE) as client:
        assert RedisSelfTests(client).take("w1") is None

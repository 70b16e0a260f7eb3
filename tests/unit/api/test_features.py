"""POST /v1/features: every kind of body, every image its own answer."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offshelf.api import features
from offshelf.api.errors import ClientGone
from offshelf.api.features import while_connected
from offshelf.errors import CapacityError, DeadlineExceeded, NoWorker
from tests.unit.api.fakes import DIGEST, files, spec_of, values_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx
    from fastapi import FastAPI

    from offshelf.queue.messages import ImageReply, ImageRequest
    from tests.unit.api.conftest import Ports


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


BODIES: dict[str, dict[str, Any]] = {
    "form fields": {
        "files": files(b"a", b"b"),
        "data": {"taps": ["fc7", "fc7:pre"], "view": "warp"},
    },
    "form, taps with commas": {
        "files": files(b"a", b"b"),
        "data": {"taps": "fc7, fc7:pre", "view": "warp"},
    },
    "form, params as JSON": {
        "files": files(b"a", b"b"),
        "data": {"params": json.dumps({"taps": ["fc7", "fc7:pre"], "view": "warp"})},
    },
    "form, params in the query": {
        "files": files(b"a", b"b"),
        "params": {"taps": ["fc7", "fc7:pre"], "view": "warp"},
    },
    "JSON": {
        "json": {
            "images": [
                {"name": "0.jpg", "data": b64(b"a")},
                {"name": "1.jpg", "data": b64(b"b") + "\n"},
            ],
            "taps": ["fc7", "fc7:pre"],
            "view": "warp",
        }
    },
}


@pytest.mark.parametrize("kind", BODIES)
async def test_all_bodies_ask_for_the_same_and_get_the_same(
    kind: str, http: httpx.AsyncClient, ports: Ports
) -> None:
    answer = await http.post("/v1/features", **BODIES[kind])
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["items"] == [
        {"index": i, "name": f"{i}.jpg", "status": "ok", "row": i, "error": None} for i in (0, 1)
    ]
    for tap in ("fc7", "fc7:pre"):
        expected = np.stack([values_of(b"a", tap), values_of(b"b", tap)])
        assert np.array_equal(np.float32(told["taps"][tap]["data"]), expected)
        asked = ports.interactive.asked[0].params
        assert told["taps"][tap]["fingerprint"] == spec_of(asked, tap).fingerprint
        assert told["taps"][tap]["shape"] == [2, 6]
    assert told["weights"]["digest"] == DIGEST
    assert ports.interactive.asked[0].params == {
        "backbone": None,
        "weights": None,
        "taps": ["fc7", "fc7:pre"],
        "view": "warp",
        "pool": None,
        "normalize": "none",
        "merge": "mean",
    }


@pytest.mark.parametrize("media", ["image/jpeg", "application/octet-stream", "Image/PNG; x=y"])
async def test_one_image_may_be_the_whole_body(media: str, http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/features?taps=fc7&name=me.jpg&normalize=l2",
        content=b"abc",
        headers={"content-type": media},
    )
    assert answer.json()["items"][0]["name"] == "me.jpg"
    assert answer.json()["taps"]["fc7"]["spec"]["normalisation"] == "l2"


async def test_requests_carry_deadline_inbox_and_an_id_of_their_own(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    for _ in range(2):
        await http.post("/v1/features", files=files(b"a"), headers={"X-Request-Id": "mine"})
    first, second = ports.interactive.asked
    assert (first.deadline_s, first.sent_s, first.reply_to) == (1005.0, 1000.0, "inbox:test")
    assert first.request_id != second.request_id
    assert first.request_id.startswith("mine.")


async def test_requests_say_how_many_images_are_asked_with_them(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    await http.post("/v1/features", files=files(b"a", b"x" * 1001, b"b"))
    assert [request.images for request in ports.interactive.asked] == [2, 2]


@pytest.mark.parametrize(("inline_bytes", "on_the_loop"), [(1 << 20, True), (0, False)])
async def test_large_answers_are_put_together_off_the_event_loop(
    inline_bytes: int,
    on_the_loop: bool,
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[bool] = []
    stack = features._stack

    def seen(*args: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return stack(*args)

    monkeypatch.setattr(features, "INLINE_BYTES", inline_bytes)
    monkeypatch.setattr(features, "_stack", seen)
    assert (await http.post("/v1/features", files=files(b"a"))).status_code == 200
    assert threads == [on_the_loop]


async def test_bad_images_fail_alone_and_rows_count_the_good_ones(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    answer = await http.post("/v1/features", files=files(b"bad", b"a", b"x" * 1001, b"b"))
    told = answer.json()
    assert answer.status_code == 200
    assert [item["row"] for item in told["items"]] == [None, 0, None, 1]
    codes = [item["error"] and item["error"]["code"] for item in told["items"]]
    assert codes == ["invalid_image", None, "too_large", None]
    assert told["taps"]["penultimate"]["shape"] == [2, 6]
    assert [request.index for request in ports.interactive.asked] == [0, 1, 3]


async def test_broken_base64_fails_alone(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/features", json={"images": ["*", b64(b"a"), ""]})
    told = answer.json()["items"]
    assert [item["status"] for item in told] == ["error", "ok", "error"]
    assert "base64" in told[0]["error"]["message"]
    assert "empty" in told[2]["error"]["message"]


async def test_when_all_images_fail_alike_the_request_fails_so(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/features", files=files(b"bad1", b"bad2"))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_image")
    assert [item["error"]["code"] for item in problem["items"]] == ["invalid_image"] * 2


async def test_when_all_images_fail_in_ways_of_their_own_it_is_422(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.post("/v1/features", files=files(b"bad", b"x" * 1001))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_an_unknown_backbone_is_404(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/features?backbone=lenet", files=files(b"a", b"b"))
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_name")
    assert answer.json()["detail"] == "no backbone named 'lenet'"


@pytest.mark.parametrize(
    ("failure", "status", "headers"),
    [
        (CapacityError("4096 images wait", retry_after_s=7.2), 429, {"retry-after": "8"}),
        (NoWorker("no worker is alive"), 503, {"retry-after": "1"}),
        (DeadlineExceeded("too late"), 504, {}),
    ],
)
async def test_failures_of_the_queue_keep_their_status(
    failure: Any, status: int, headers: dict[str, str], http: httpx.AsyncClient, ports: Ports
) -> None:
    ports.interactive.failure = failure
    answer = await http.post("/v1/features", files=files(b"a"))
    assert (answer.status_code, answer.json()["code"]) == (status, failure.code)
    assert answer.json()["retryable"] is True
    assert headers.items() <= dict(answer.headers).items()


async def test_rows_of_different_weights_never_share_an_array(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    ports.interactive.digests[b"b"] = "0" * 64
    answer = await http.post("/v1/features", files=files(b"a", b"b"))
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")


@pytest.mark.parametrize("fault", ["without the taps", "in another order", "one too few"])
async def test_answers_that_do_not_fit_the_question_are_a_fault_of_ours(
    fault: str, http: httpx.AsyncClient, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ports.interactive.ask

    async def ask(requests: Sequence[ImageRequest]) -> list[ImageReply]:
        replies = await honest(requests)
        if fault == "without the taps":
            return [replace(reply, rows={}) for reply in replies]
        return replies[::-1] if fault == "in another order" else replies[:1]

    monkeypatch.setattr(ports.interactive, "ask", ask)
    answer = await http.post("/v1/features", files=files(b"a", b"b"))
    assert (answer.status_code, answer.json()["code"]) == (500, "worker_error")
    assert "log" in answer.json()["detail"]


async def test_the_ask_is_cancelled_when_the_client_leaves(app: FastAPI, ports: Ports) -> None:
    ports.interactive.gate = asyncio.Event()
    messages = [{"type": "http.request", "body": b"a", "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await ports.interactive.waiting.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/features",
        "raw_path": b"/v1/features",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"image/jpeg")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    async with asyncio.timeout(5):
        await app(scope, receive, send)
    assert ports.interactive.cancelled
    assert sent[0]["status"] == 499


async def test_work_that_is_done_wins_over_a_client_that_leaves_at_the_same_time() -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def work() -> str:
        return "done"

    assert await while_connected(gone, work()) == "done"


async def test_work_is_cancelled_with_the_request_itself() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def never() -> Any:
        await asyncio.Event().wait()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(while_connected(never, work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_client_that_leaves_raises_client_gone() -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await while_connected(gone, asyncio.Event().wait())

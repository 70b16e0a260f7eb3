"""When calls are repeated, and how long is waited."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import offshelf_client as sdk
from offshelf_client._retrying import Attempts
from offshelf_client._wire import retry_after_s
from tests.unit.client.fake_service import FakeService, backbone_body, job_body, problem


def patience(**more: Any) -> tuple[sdk.Retry, list[float]]:
    """A Retry on a clock that only its own sleep moves, and the sleeps."""
    slept: list[float] = []
    more.setdefault("random", lambda: 0.5)
    return sdk.Retry(clock=lambda: sum(slept), sleep=slept.append, **more), slept


def page(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"items": [backbone_body()], "has_more": False})


def over_capacity(retry_after: str = "3") -> httpx.Response:
    return problem(429, "over_capacity", retryable=True, retry_after=retry_after)


def test_retry_after_is_obeyed_with_jitter_on_top() -> None:
    retry, slept = patience(base_s=1.0)
    fake = FakeService([over_capacity("3"), over_capacity("7")], {("GET", "/v1/backbones"): page})
    with sdk.Client(transport=fake.transport, retry=retry) as client:
        assert [b.name for b in client.backbones()] == ["alexnet"]
    assert slept == [3 + 0.5, 7 + 1.0]


def test_pauses_without_advice_double_up_to_the_cap() -> None:
    retry, slept = patience(base_s=1.0, cap_s=3.0, random=lambda: 1.0)
    fake = FakeService([httpx.ConnectError("no") for _ in range(9)])
    with (
        sdk.Client(transport=fake.transport, retry=retry) as client,
        pytest.raises(sdk.ConnectionFailed),
    ):
        client.backbones()
    assert slept == [1.0, 2.0, 3.0, 3.0, 3.0]
    assert len(fake.requests) == 6


def test_it_gives_up_rather_than_wait_beyond_the_total() -> None:
    retry, slept = patience(total_s=10.0, base_s=0.0)
    fake = FakeService([over_capacity("6"), over_capacity("6")])
    with (
        sdk.Client(transport=fake.transport, retry=retry) as client,
        pytest.raises(sdk.OverCapacityError) as caught,
    ):
        client.backbones()
    assert slept == [6.0]
    assert caught.value.retry_after_s == 6.0


@given(
    st.lists(st.floats(0, 1, exclude_max=True), min_size=8, max_size=8),
    st.floats(0.01, 5),
    st.floats(0.01, 20),
)
def test_jitter_is_between_zero_and_the_exponential_ceiling(
    drawn: list[float], base_s: float, cap_s: float
) -> None:
    source = iter(drawn)
    retry = sdk.Retry(
        attempts=9, base_s=base_s, cap_s=cap_s, random=lambda: next(source), clock=lambda: 0.0
    )
    attempts = Attempts(retry)
    for n in range(8):
        pause = attempts.pause_after(sdk.ConnectionFailed("no", sent=False), safe=True)
        if pause is None:
            assert min(cap_s, base_s * 2**n) > retry.total_s
            return
        assert 0 <= pause <= min(cap_s, base_s * 2**n)


REFUSED = sdk.ConnectionFailed("no", sent=False)
BROKEN = sdk.ConnectionFailed("broken", sent=True)


def api(status: int, *, retryable: bool = True) -> sdk.ApiError:
    return sdk.ApiError("no", status=status, retryable=retryable)


@pytest.mark.parametrize(
    ("error", "safe", "unsafe"),
    [
        (REFUSED, True, True),
        (BROKEN, True, False),
        (sdk.TimedOut("connect", sent=False), True, True),
        (sdk.TimedOut("read", sent=True), False, False),
        (api(429), True, True),
        (api(503), True, True),
        (api(504), True, False),
        (api(500), False, False),
        (api(422, retryable=False), False, False),
        (api(503, retryable=False), False, False),
        (sdk.UnexpectedAnswer("html"), False, False),
    ],
)
def test_which_errors_are_worth_a_repeat(
    error: sdk.OffshelfError, safe: bool, unsafe: bool
) -> None:
    retry = sdk.Retry(clock=lambda: 0.0)
    assert (Attempts(retry).pause_after(error, safe=True) is not None) is safe
    assert (Attempts(retry).pause_after(error, safe=False) is not None) is unsafe


def test_missing_weights_are_told_at_once() -> None:
    fake = FakeService([problem(503, "weights_missing", retryable=False)])
    with (
        sdk.Client(transport=fake.transport) as client,
        pytest.raises(sdk.WeightsMissingError),
    ):
        client.backbones()
    assert len(fake.requests) == 1


def test_repeated_job_creation_carries_one_idempotency_key() -> None:
    retry, _ = patience()
    created = httpx.Response(202, json=job_body())
    fake = FakeService([httpx.ReadError("broken"), over_capacity(), created])
    with sdk.Client(transport=fake.transport, retry=retry) as client:
        assert client.heads.train("d1").id == "j1"
    keys = [request.headers["idempotency-key"] for request in fake.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert fake.requests[0].content == fake.requests[2].content


def test_two_jobs_have_two_keys_and_a_key_can_be_chosen() -> None:
    fake = FakeService([httpx.Response(202, json=job_body()) for _ in range(3)])
    with sdk.Client(transport=fake.transport) as client:
        client.heads.train("d1")
        client.heads.train("d1")
        client.feature_sets.create("d1", idempotency_key="mine")
    keys = [request.headers["idempotency-key"] for request in fake.requests]
    assert keys[0] != keys[1]
    assert keys[2] == "mine"


def test_deletion_is_not_repeated_when_the_answer_was_lost() -> None:
    retry, _ = patience()
    fake = FakeService([httpx.ReadError("broken")])
    with (
        sdk.Client(transport=fake.transport, retry=retry) as client,
        pytest.raises(sdk.ConnectionFailed),
    ):
        client.heads.delete("h1")
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("2.5", 2.5),
        ("-1", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("soon", None),
        ("nan", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now_s=40.0) == seconds


async def test_async_client_awaits_the_sleep_that_it_is_given() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    retry = sdk.Retry(random=lambda: 0.5, base_s=1.0, sleep=sleep)
    fake = FakeService([over_capacity("3")], {("GET", "/v1/backbones"): page})
    async with sdk.AsyncClient(transport=fake.transport, retry=retry) as client:
        assert len(await client.backbones()) == 1
    assert slept == [3.5]

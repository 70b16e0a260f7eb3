"""Every error of the wire has a class; no exception of httpx leaves the SDK."""

from __future__ import annotations

import json

import httpx
import pytest

import offshelf_client as sdk
from offshelf.errors import error_codes as service_codes
from offshelf_client import _errors
from offshelf_client._errors import translated
from tests.unit.client.fake_service import FakeService, problem

ONCE = sdk.Retry(attempts=1)


def subclasses(kind: type[BaseException]) -> list[type[BaseException]]:
    return [kind, *(s for child in kind.__subclasses__() for s in subclasses(child))]


def test_every_code_of_the_service_has_a_class_of_its_own() -> None:
    assert set(service_codes()) == set(_errors.error_codes())
    assert len(set(_errors.error_codes().values())) == len(service_codes())


@pytest.mark.parametrize(("code", "kind"), sorted(_errors.error_codes().items()))
def test_problem_becomes_the_error_of_its_code(code: str, kind: type[sdk.ApiError]) -> None:
    status = service_codes()[code].status
    fake = FakeService([problem(status, code, extra="more")])
    with sdk.Client(transport=fake.transport, retry=ONCE) as client, pytest.raises(kind) as caught:
        client.backbones()
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.status, error.request_id) == (code, status, "r1")
    assert str(error) == f"told {code}"
    assert error.problem["extra"] == "more"


def test_code_that_this_sdk_does_not_know_is_still_an_api_error() -> None:
    fake = FakeService([problem(409, "brand_new")])
    with (
        sdk.Client(transport=fake.transport) as client,
        pytest.raises(sdk.ApiError, match="brand_new") as caught,
    ):
        client.backbones()
    assert caught.value.code == "brand_new"


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = _errors.__doc__ or ""
    for kind in subclasses(sdk.OffshelfError):
        assert kind.__name__ in drawn
    for code in _errors.error_codes():
        assert code in drawn


def test_absent_service_is_told_with_its_address_and_what_to_do() -> None:
    fake = FakeService([httpx.ConnectError("[Errno 111] Connection refused")])
    with (
        sdk.Client("there:81/v1/", transport=fake.transport, retry=ONCE) as client,
        pytest.raises(sdk.ConnectionFailed) as caught,
    ):
        client.backbones()
    assert str(caught.value) == (
        "cannot reach http://there:81: Connection refused; "
        "start it with `offshelf serve` or set OFFSHELF_URL"
    )
    assert str(fake.requests[0].url) == "http://there:81/v1/backbones"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("localhost:8991", "http://localhost:8991"),
        ("https://there/v1", "https://there"),
        ("http://there/v1/", "http://there"),
        ("http://there/offshelf/", "http://there/offshelf"),
        (" 10.1.2.3 ", "http://10.1.2.3"),
    ],
)
def test_address_is_completed(given: str, used: str) -> None:
    with sdk.Client(given) as client:
        assert client.url == used


FOREIGN = sorted(
    {
        kind
        for root in (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
        for kind in subclasses(root)
        if kind.__module__.startswith("httpx")
    },
    key=lambda kind: kind.__name__,
)


def made(kind: type[BaseException]) -> BaseException:
    if kind is httpx.HTTPStatusError:
        request = httpx.Request("GET", "http://x")
        return httpx.HTTPStatusError("bad", request=request, response=httpx.Response(500))
    try:
        return kind("bad")
    except TypeError:
        return kind()


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_no_exception_of_httpx_escapes(kind: type[BaseException]) -> None:
    with pytest.raises(sdk.OffshelfError) as caught, translated("GET /", "http://x"):
        raise made(kind)
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize(
    ("raised", "kind", "sent"),
    [
        (httpx.ConnectError("no"), sdk.ConnectionFailed, False),
        (httpx.ConnectTimeout("no"), sdk.TimedOut, False),
        (httpx.PoolTimeout("no"), sdk.TimedOut, False),
        (httpx.ReadTimeout("no"), sdk.TimedOut, True),
        (httpx.ReadError("no"), sdk.ConnectionFailed, True),
        (httpx.RemoteProtocolError("no"), sdk.ConnectionFailed, True),
    ],
)
def test_transport_errors_say_whether_the_server_may_have_seen_it(
    raised: Exception, kind: type[sdk.TransportError], sent: bool
) -> None:
    fake = FakeService([raised])
    with sdk.Client(transport=fake.transport, retry=ONCE) as client, pytest.raises(kind) as caught:
        client.backbones()
    assert caught.value.sent is sent


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"items": 3}),
        httpx.Response(200, json={"items": [{"taps": 3}]}),
        httpx.Response(200, json={"items": [{"name": "x"}]}),
        httpx.Response(404, text="nothing here"),
        httpx.Response(500, json={"error": "x"}),
        httpx.Response(302, headers={"Location": "/elsewhere"}),
    ],
)
def test_answers_of_something_else_are_told_as_such(reply: httpx.Response) -> None:
    fake = FakeService([reply])
    with (
        sdk.Client(transport=fake.transport, retry=ONCE) as client,
        pytest.raises(sdk.UnexpectedAnswer),
    ):
        client.backbones()


@pytest.mark.parametrize("content", [b"", b"PK not a zip", json.dumps({}).encode()])
def test_features_answer_that_is_no_npz_is_told(content: bytes) -> None:
    fake = FakeService([httpx.Response(200, content=content)])
    with sdk.Client(transport=fake.transport) as client, pytest.raises(sdk.UnexpectedAnswer):
        client.features(b"bytes", taps="fc7")


def test_bad_gateway_of_a_proxy_is_retryable() -> None:
    fake = FakeService([httpx.Response(503, text="<html>")])
    with (
        sdk.Client(transport=fake.transport, retry=ONCE) as client,
        pytest.raises(sdk.ApiError) as caught,
    ):
        client.backbones()
    assert caught.value.retryable


def test_bad_address_is_an_error_of_ours() -> None:
    with pytest.raises(sdk.OffshelfError):
        sdk.Client("http://[bad").backbones()
    with pytest.raises(sdk.OffshelfError):
        sdk.Client("nothing://x", retry=ONCE).backbones()

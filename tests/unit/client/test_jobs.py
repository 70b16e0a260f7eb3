"""Waiting for jobs: events, broken streams, polling, time-outs, and how they end."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, get_args

import httpx
import pytest

import offshelf_client as sdk
from offshelf_client._sse import EventParser
from offshelf_client._waiting import progress_of, status_after
from tests.unit.client.fake_service import (
    FakeService,
    backbone_body,
    head_card,
    job_body,
    problem,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import Callable

JOB = ("GET", "/v1/jobs/j1")
EVENTS = ("GET", "/v1/jobs/j1/events")
RUNNING = {"type": "progress", "state": "running", "stage": "extracting", "total": 8}
DONE = {"type": "state", "state": "succeeded", "stage": "", "total": 8, "done": 7, "failed": 1}


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 1e-6)

    def retry(self, **more: Any) -> sdk.Retry:
        return sdk.Retry(
            clock=lambda: self.now_s,
            sleep=self.sleep,
            random=lambda: 0.5,
            **{"attempts": 1, **more},
        )


def replies(*given: httpx.Response | Exception) -> Callable[[httpx.Request], httpx.Response]:
    """Give one after another, and the last one for ever."""
    left = list(given)

    def reply(_: httpx.Request) -> httpx.Response:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, content=found.content, headers=found.headers)

    return reply


def jobs(*bodies: dict[str, Any]) -> Callable[[httpx.Request], httpx.Response]:
    return replies(*(httpx.Response(200, json=body) for body in bodies))


def client_of(fake: FakeService, clock: Clock | None = None, **more: Any) -> sdk.Client:
    return sdk.Client(transport=fake.transport, retry=(clock or Clock()).retry(**more))


SUCCEEDED = job_body(state="succeeded", total=8, done=7, failed=1, result={"head": "h1"})


def test_wait_follows_the_events_to_the_end() -> None:
    fake = FakeService(
        routes={
            JOB: jobs(job_body(), SUCCEEDED),
            EVENTS: replies(sse(("1-0", RUNNING), ("2-0", {**RUNNING, "done": 4}), ("3-0", DONE))),
        }
    )
    told: list[sdk.Progress] = []
    with client_of(fake) as client:
        job = client.jobs.get("j1").wait(progress=told.append)
    assert job.state == "succeeded"
    assert job.result == {"head": "h1"}
    assert [(p.stage, p.done, p.total) for p in told] == [
        ("queued", 0, None), ("extracting", 0, 8), ("extracting", 4, 8), ("succeeded", 8, 8),
    ]  # fmt: skip


async def test_async_wait_does_the_same() -> None:
    fake = FakeService(
        routes={
            JOB: jobs(job_body(), SUCCEEDED),
            EVENTS: replies(sse(("1-0", RUNNING), ("2-0", DONE), beats=2)),
        }
    )
    async with sdk.AsyncClient(transport=fake.transport) as client:
        job = await (await client.jobs.get("j1")).wait()
        assert [event.id async for event in job.events()] == ["1-0", "2-0"]
    assert job.state == "succeeded"


def test_broken_stream_is_taken_up_where_it_broke() -> None:
    def breaking(request: httpx.Request) -> httpx.Response:
        last = request.headers.get("last-event-id")
        if last is None:
            return httpx.Response(200, content=Breaking(b'id: 5-0\ndata: {"state":"running"}\n\n'))
        assert last == "5-0"
        return sse(("6-0", DONE))

    fake = FakeService(routes={JOB: jobs(job_body(state="running"), SUCCEEDED), EVENTS: breaking})
    with client_of(fake) as client:
        ids = [event.id for event in client.jobs.get("j1").events()]
    assert ids == ["5-0", "6-0"]


class Breaking(httpx.SyncByteStream):
    """A stream that ends in a broken connection."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self):
        yield self._content
        raise httpx.ReadError("broken")


def test_stream_that_just_ends_is_opened_again_while_the_job_runs() -> None:
    fake = FakeService(
        routes={
            JOB: jobs(job_body(), job_body(state="running"), SUCCEEDED),
            EVENTS: replies(sse(("1-0", RUNNING)), sse(("2-0", DONE))),
        }
    )
    with client_of(fake) as client:
        assert client.jobs.get("j1").wait().state == "succeeded"
    opened = [r.headers.get("last-event-id") for r in fake.requests if "events" in r.url.path]
    assert opened == [None, "1-0"]


@pytest.mark.parametrize(
    "broken",
    [
        httpx.ConnectError("no"),
        problem(503, "dependency_unavailable", retryable=True),
        problem(404, "not_found"),
        httpx.Response(200, text="data: not json\n\n"),
    ],
    ids=["refused", "unavailable", "no such route", "not events"],
)
def test_where_events_fail_it_asks_from_time_to_time(broken: httpx.Response | Exception) -> None:
    running = job_body(state="running", stage="training")
    fake = FakeService(
        routes={JOB: jobs(running, running, running, running, SUCCEEDED), EVENTS: replies(broken)}
    )
    clock = Clock()
    with client_of(fake, clock) as client:
        assert client.jobs.get("j1").wait().state == "succeeded"
    assert clock.now_s > 0


def test_wait_times_out_while_the_job_goes_on() -> None:
    clock = Clock()
    fake = FakeService(
        routes={
            JOB: jobs(job_body(state="running")),
            EVENTS: replies(problem(404, "not_found")),
        }
    )
    with client_of(fake, clock) as client, pytest.raises(sdk.TimedOut, match="within 7 s"):
        client.jobs.get("j1").wait(timeout=7)
    assert 7 <= clock.now_s < 9
    assert isinstance(sdk.TimedOut("x"), TimeoutError)


def test_wait_times_out_on_a_stream_that_only_beats() -> None:
    clock = Clock()

    def beating(_: httpx.Request) -> httpx.Response:
        clock.sleep(10)
        return sse(beats=1)

    fake = FakeService(routes={JOB: jobs(job_body(state="running")), EVENTS: beating})
    with client_of(fake, clock) as client, pytest.raises(sdk.TimedOut, match="within 25 s"):
        client.jobs.get("j1").wait(timeout=25)


def test_failed_job_raises_its_error() -> None:
    error = {"code": "weights_missing", "message": "no weights for vgg16", "retryable": False}
    fake = FakeService(routes={JOB: jobs(job_body(state="failed", error=error))})
    with client_of(fake) as client, pytest.raises(sdk.JobFailedError, match="no weights") as caught:
        client.jobs.get("j1").wait()
    assert caught.value.code == "weights_missing"


def test_cancelled_job_raises() -> None:
    fake = FakeService(routes={JOB: jobs(job_body(state="cancelled"))})
    with client_of(fake) as client, pytest.raises(sdk.JobCancelledError):
        client.jobs.get("j1").wait()


def test_cancel_of_a_finished_job_is_no_error_and_other_conflicts_are() -> None:
    conflict = problem(409, "job_conflict")
    fake = FakeService(routes={JOB: jobs(SUCCEEDED), ("DELETE", "/v1/jobs/j1"): replies(conflict)})
    with client_of(fake) as client:
        assert client.jobs.cancel("j1").state == "succeeded"
    fake.routes[JOB] = jobs(job_body(state="running"))
    with client_of(fake) as client, pytest.raises(sdk.JobConflictError):
        client.jobs.cancel("j1")


def test_head_of_a_job_knows_how_it_did() -> None:
    fake = FakeService(
        routes={
            JOB: jobs(SUCCEEDED),
            ("GET", "/v1/heads/h1"): replies(httpx.Response(200, json=head_card())),
        }
    )
    with client_of(fake) as client:
        head = client.jobs.get("j1").head()
    assert head.id == "h1"
    assert head.classes == ("a", "b")
    assert head.report.test is not None
    assert head.report.test.accuracy == 0.75
    assert head.info.weights.random


def test_head_before_the_end_says_how_far_the_job_is() -> None:
    running = job_body(state="running", stage="extracting")
    with (
        client_of(FakeService(routes={JOB: jobs(running)})) as client,
        pytest.raises(sdk.JobConflictError, match=r"running \(extracting\); call wait\(\) first"),
    ):
        client.jobs.get("j1").head()


def test_feature_set_job_has_no_head() -> None:
    fake = FakeService(
        routes={JOB: jobs(job_body(state="succeeded", result={"feature_set": "f1"}))}
    )
    with client_of(fake) as client, pytest.raises(sdk.JobConflictError, match="no head"):
        client.jobs.get("j1").head()


@pytest.mark.parametrize(
    "split",
    [sdk.RandomSplit(30, seed=4), {"train_per_class": 30, "test_per_class": None, "seed": 4}],
)
def test_train_sends_what_the_server_reads(split: Any) -> None:
    from offshelf.schemas.heads import HeadRequest, RandomSplit

    fake = FakeService([httpx.Response(202, json=job_body())])
    with client_of(fake) as client:
        client.heads.train("d1", "vgg16", "fc6:pre", "logreg", 0.5, split=split, normalize="l2")
    wanted = HeadRequest.model_validate_json(fake.requests[0].content)
    assert wanted == HeadRequest(
        dataset="d1", backbone="vgg16", taps=["fc6:pre"], kind="logreg", C=0.5, normalize="l2",
        split=RandomSplit(train_per_class=30, seed=4),
    )  # fmt: skip


def test_train_sends_every_option_as_the_server_reads_it() -> None:
    from offshelf.schemas.heads import HeadRequest

    options: dict[str, Any] = {
        "class_weight": {"ant": 2.0}, "positive_weight": 3.0, "standardise": True,
        "intercept": "regularised", "intercept_scale": 10.0, "dropout": 0.25, "seed": 7,
        "calibrate": "platt",
    }  # fmt: skip
    choices = [
        (sdk.ChooseC("clip", "val", True, "map_11pt"), None),
        (sdk.ChooseC((1, 2.5)), {"choose": [1.0, 2.5], "folds": 5}),
        ({"choose": "vissl", "folds": 3}, {"choose": "vissl", "folds": 3}),
    ]
    for C, body in choices:
        fake = FakeService([httpx.Response(202, json=job_body())])
        with client_of(fake) as client:
            client.heads.train("d1", C=C, kind="ridge", **options)
        wanted = HeadRequest.model_validate_json(fake.requests[0].content)
        given = body or {
            "choose": "clip", "folds": "val", "per_class": True, "metric": "map_11pt",
        }  # fmt: skip
        assert wanted == HeadRequest.model_validate(
            {"dataset": "d1", "kind": "ridge", "C": given, **options}
        )


def test_the_options_of_the_sdk_are_those_of_the_server() -> None:
    from offshelf.schemas import learning

    names = [f.name for f in dataclasses.fields(sdk.ChooseC)]
    assert names == list(learning.ChooseC.model_fields)
    assert {f.name for f in dataclasses.fields(sdk.Choice)} == set(learning.Choice.model_fields)
    assert {f.name for f in dataclasses.fields(sdk.PathPoint)} == set(
        learning.PathPoint.model_fields
    )
    assert {f.name for f in dataclasses.fields(sdk.Calibration)} == set(
        learning.Calibration.model_fields
    )
    parameters = inspect.signature(sdk.Client("http://x").heads.train).parameters
    assert set(learning.Learning.model_fields) <= set(parameters)


def test_progress_of_a_search_counts_fits() -> None:
    search = {"done": 9, "total": 45, "C": 0.1, "fold": 2, "score": 0.5}
    status = sdk.JobStatus("j1", "head", "running", stage="training", total=30, done=30)
    event = sdk.JobEvent("1-0", {"type": "progress", "stage": "choosing C", "search": search})
    running = status_after(status, event)
    assert (running.done, running.search) == (30, search)
    assert progress_of(running) == sdk.Progress("choosing C", 9, 45, unit="fits")


def test_the_kinds_of_heads_are_those_of_the_server() -> None:
    from offshelf.heads.interface import SOLVERS
    from offshelf.schemas.heads import HeadKind

    assert get_args(sdk.HeadKind) == get_args(HeadKind)
    assert sorted(get_args(sdk.HeadKind)) == SOLVERS.names()


def test_feature_set_request_is_what_the_server_reads() -> None:
    from offshelf.schemas.feature_sets import FeatureSetRequest

    fake = FakeService([httpx.Response(202, json=job_body())])
    with client_of(fake) as client:
        client.feature_sets.create("d1", taps=["fc6", "fc7:pre"], weights="random:0")
    wanted = FeatureSetRequest.model_validate_json(fake.requests[0].content)
    assert wanted == FeatureSetRequest(dataset="d1", taps=["fc6", "fc7:pre"], weights="random:0")


def test_lists_walk_all_pages_or_stop_at_the_limit() -> None:
    def paged(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params.get("after", "0"))
        limit = int(request.url.params["limit"])
        found = [job_body(f"{n}") for n in range(after + 1, min(250, after + limit) + 1)]
        last = found[-1]["id"]
        page = {"items": found, "has_more": last != "250", "after": last if last != "250" else None}
        return httpx.Response(200, json=page)

    fake = FakeService(routes={("GET", "/v1/jobs"): paged})
    with client_of(fake) as client:
        assert [job.id for job in client.jobs.list()] == [str(n) for n in range(1, 251)]
        assert len(client.jobs.list(limit=7)) == 7
    assert fake.requests[-1].url.params["limit"] == "7"


def test_cursor_that_does_not_move_is_refused() -> None:
    page = {"items": [backbone_body()], "has_more": True, "after": "x"}
    fake = FakeService(
        routes={("GET", "/v1/jobs"): replies(httpx.Response(200, json=page | {"items": []}))}
    )
    with client_of(fake) as client, pytest.raises(sdk.UnexpectedAnswer, match="cursor"):
        client.jobs.list()


def test_identifiers_are_quoted() -> None:
    fake = FakeService()
    with client_of(fake) as client, pytest.raises(sdk.ApiError):
        client.heads.get("../jobs?x")
    assert fake.requests[0].url.raw_path == b"/v1/heads/..%2Fjobs%3Fx"


def test_events_are_parsed_as_the_standard_says() -> None:
    parser = EventParser()
    lines = [": beat", "", "id:7", "event: x", 'data: {"a":', "data:1}", "", "data: {}", ""]
    found = [event for line in lines if (event := parser.feed(line))]
    assert found == [sdk.JobEvent("7", {"a": 1}), sdk.JobEvent("7", {})]

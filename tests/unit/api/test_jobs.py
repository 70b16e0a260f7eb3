"""/v1/jobs, and how jobs come about: submission, idempotency, pages, cancel, events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from offshelf.core.jobs import JobState
from offshelf.errors import CapacityError, DependencyError, ErrorInfo, InvalidParameter

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from tests.unit.api.conftest import Ports


@pytest.fixture
async def dataset(http: httpx.AsyncClient, pets: bytes) -> str:
    answer = await http.post("/v1/datasets", files={"archive": ("p.zip", pets)})
    return str(answer.json()["id"])


async def train(http: httpx.AsyncClient, dataset: str, key: str = "", **more: Any) -> Any:
    headers = {"idempotency-key": key} if key else {}
    return await http.post("/v1/heads", json={"dataset": dataset, **more}, headers=headers)


async def test_a_head_is_queued_and_can_be_watched(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    answer = await train(http, dataset, kind="logreg", C=0.1, taps=["fc6"])
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"]) == ("head", "queued")
    assert ports.job_queue.submitted == [job["id"]]
    record = ports.jobs.get(job["id"]).params
    assert record["dataset"] == dataset
    assert (record["kind"], record["C"], record["taps"]) == ("logreg", 0.1, ["fc6"])
    assert (await http.get(job["links"]["self"])).json() == job


async def test_a_feature_set_is_queued(http: httpx.AsyncClient, ports: Ports, dataset: str) -> None:
    body = {"dataset": dataset, "taps": ["fc6", "fc7"]}
    answer = await http.post("/v1/feature-sets", json=body)
    assert (answer.status_code, answer.json()["kind"]) == (202, "feature_set")
    assert ports.jobs.get(answer.json()["id"]).params["taps"] == ["fc6", "fc7"]


async def test_a_repeated_key_gives_the_first_job(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    first = await train(http, dataset, "k1")
    ports.jobs.advance(first.json()["id"], JobState.RUNNING)
    second = await train(http, dataset, "k1")
    other = await train(http, dataset, "k2")
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["id"] == first.json()["id"] != other.json()["id"]
    assert ports.job_queue.submitted == [first.json()["id"], other.json()["id"]]


async def test_a_key_used_for_something_else_is_409(http: httpx.AsyncClient, dataset: str) -> None:
    await train(http, dataset, "k1")
    answer = await train(http, dataset, "k1", C=2.0)
    assert (answer.status_code, answer.json()["code"]) == (409, "job_conflict")


async def test_a_job_that_could_not_be_handed_over_is_handed_over_by_the_repeat(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    ports.job_queue.failure = DependencyError("Redis is away")
    assert (await train(http, dataset, "k1")).status_code == 503
    ports.job_queue.failure = None
    answer = await train(http, dataset, "k1")
    assert ports.job_queue.submitted == [answer.json()["id"]]


async def test_a_job_without_key_that_could_not_be_handed_over_has_failed(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    ports.job_queue.failure = DependencyError("Redis is away")
    assert (await train(http, dataset)).status_code == 503
    (job,) = ports.jobs.records.values()
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "dependency_unavailable"


async def test_jobs_are_paged_newest_first(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    made = [(await train(http, dataset)).json()["id"] for _ in range(3)]
    ports.jobs.create("head", "somebody", {})
    first = (await http.get("/v1/jobs?limit=2")).json()
    assert ([job["id"] for job in first["items"]], first["has_more"]) == (made[:0:-1], True)
    rest = (await http.get("/v1/jobs", params={"after": first["after"]})).json()
    assert [job["id"] for job in rest["items"]] == made[:1]
    assert (rest["has_more"], rest["after"]) == (False, None)


async def test_jobs_of_others_are_not_there(http: httpx.AsyncClient, ports: Ports) -> None:
    job, _ = ports.jobs.create("head", "somebody", {})
    assert (await http.get(f"/v1/jobs/{job.id}")).status_code == 404
    assert (await http.delete(f"/v1/jobs/{job.id}")).status_code == 404
    assert (await http.get(f"/v1/jobs/{job.id}/events")).status_code == 404


async def test_a_finished_job_links_to_what_it_made_and_a_failed_one_says_why(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    good, bad = [(await train(http, dataset)).json()["id"] for _ in range(2)]
    ports.jobs.advance(good, JobState.RUNNING)
    ports.jobs.advance(good, JobState.SUCCEEDED, result={"head": "h1"})
    error = ErrorInfo.of(InvalidParameter("one class only"))
    ports.jobs.advance(bad, JobState.FAILED, error=error)
    assert (await http.get(f"/v1/jobs/{good}")).json()["links"]["head"] == "/v1/heads/h1"
    told = (await http.get(f"/v1/jobs/{bad}")).json()["error"]
    assert told == {"code": "invalid_parameter", "message": "one class only", "retryable": False}


async def test_a_queued_job_is_cancelled_and_a_finished_one_is_a_conflict(
    http: httpx.AsyncClient, dataset: str
) -> None:
    job = (await train(http, dataset)).json()["id"]
    answer = await http.delete(f"/v1/jobs/{job}")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    again = await http.delete(f"/v1/jobs/{job}")
    assert (again.status_code, again.json()["code"]) == (409, "job_conflict")


LOG: list[tuple[str, dict[str, Any]]] = [
    ("1-0", {"state": "queued"}),
    ("", {}),
    ("2-0", {"state": "running", "detail": "line one\nline two", "done": 3}),
    ("3-0", {"state": "succeeded"}),
]


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if fields:
            found.append((fields["id"], json.loads(fields["data"])))
    return found


async def test_events_come_with_ids_and_silence_is_broken(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    ports.events.log = LOG
    job = (await train(http, dataset)).json()
    answer = await http.get(job["links"]["events"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events_of(answer.text) == [event for event in LOG if event[0]]
    assert ": keep-alive\n\n" in answer.text
    assert ports.events.closed


@pytest.mark.parametrize("last", ["1-0", "2-0", "3-0"])
async def test_events_are_replayed_after_the_last_one_seen(
    last: str, http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    ports.events.log = LOG
    job = (await train(http, dataset)).json()
    answer = await http.get(job["links"]["events"], headers={"last-event-id": last})
    assert events_of(answer.text) == [event for event in LOG if event[0] > last]


@pytest.mark.parametrize("last", ["$", str(2**64), f"1-{2**64}"])
async def test_a_last_event_id_that_is_none_is_422(
    last: str, http: httpx.AsyncClient, dataset: str
) -> None:
    job = (await train(http, dataset)).json()
    answer = await http.get(job["links"]["events"], headers={"last-event-id": last})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


async def test_a_stream_that_cannot_begin_is_refused_with_a_status(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    ports.events.failure = CapacityError("256 streams are open", 10.0)
    job = (await train(http, dataset)).json()
    answer = await http.get(job["links"]["events"])
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert ports.events.closed


async def test_events_end_when_redis_goes_away(
    http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    ports.events.log = LOG[:1]
    ports.events.failure = DependencyError("Redis is away")
    job = (await train(http, dataset)).json()
    answer = await http.get(job["links"]["events"])
    assert events_of(answer.text) == LOG[:1]
    assert answer.text.endswith(": interrupted\n\n")
    assert ports.events.closed


async def test_where_the_server_stops_the_stream_ends_though_the_job_does_not(
    app: FastAPI, http: httpx.AsyncClient, ports: Ports, dataset: str
) -> None:
    ports.events.log = LOG
    app.state.closing = lambda: True
    job = (await train(http, dataset)).json()
    answer = await http.get(job["links"]["events"])
    assert answer.text.endswith(": interrupted\n\n")
    assert len(events_of(answer.text)) < len([event for event in LOG if event[0]])
    assert ports.events.closed

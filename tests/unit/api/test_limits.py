"""429 with Retry-After, counted in images, for requests and for jobs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from offshelf.api.app import create_app
from offshelf.api.limits import ClientImages
from offshelf.core.jobs import JobState
from offshelf.datasets import records
from offshelf.datasets.importing import Wanted
from offshelf.errors import CapacityError
from offshelf.schemas.datasets import DatasetItem

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from offshelf.settings import Settings
    from tests.unit.api.conftest import Ports


def test_images_count_while_they_wait_and_a_lone_large_request_is_allowed() -> None:
    clients = ClientImages(limit=10, rate=2.0)
    with clients.waiting("a", 25):
        with clients.waiting("b", 10), pytest.raises(CapacityError, match="limit of 10") as caught:
            clients.waiting("a", 1).__enter__()
        assert caught.value.retry_after_s == 12.5
    with clients.waiting("a", 4), clients.waiting("a", 6), pytest.raises(CapacityError):
        clients.waiting("a", 1).__enter__()
    assert not clients._waiting, "who waits for nothing costs nothing"


@pytest.fixture
def app(ports: Ports, settings: Settings) -> FastAPI:
    limits = {"max_client_images": 3, "max_bulk_images": 10, "max_open_jobs": 2}
    return create_app(ports.services(), settings.model_copy(update=limits))


async def test_a_client_with_too_many_images_is_told_to_come_back_and_another_is_not(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    ports.interactive.gate = asyncio.Event()
    two = [("images", ("a.png", b"one")), ("images", ("b.png", b"two"))]
    first = asyncio.create_task(http.post("/v1/features", files=two, params={"taps": "fc7"}))
    await ports.interactive.waiting.wait()
    refused = await http.post("/v1/features", files=two, params={"taps": "fc7"})
    assert refused.status_code == 429
    assert float(refused.headers["Retry-After"]) >= 1
    assert refused.json()["code"] == "over_capacity"
    other = asyncio.create_task(
        http.post("/v1/features", files=two, params={"taps": "fc7"}, headers={"X-Client": "b"})
    )
    await asyncio.sleep(0)
    ports.interactive.gate.set()
    assert (await first).status_code == (await other).status_code == 200
    assert (await http.post("/v1/features", files=two, params={"taps": "fc7"})).status_code == 200


def stored_dataset(ports: Ports, name: str, images: int) -> None:
    items = [DatasetItem(f"a/{n}", "a", f"{n:064x}", 1) for n in range(images)]
    wanted = Wanted("default", name, 1.0)
    head = wanted.head(id=name, classes=["a"], counts={"a": images}, total=images)
    records.add(ports.store, head, items)


async def test_jobs_are_limited_by_their_images_that_are_yet_to_come(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    stored_dataset(ports, "ds-large", 30)
    stored_dataset(ports, "ds-small", 4)
    first = (await http.post("/v1/feature-sets", json={"dataset": "ds-large"})).json()
    assert first["total"] == 30, "alone it is let in, and counts from the start"
    refused = await http.post("/v1/heads", json={"dataset": "ds-small"})
    assert refused.status_code == 429
    assert "30 images of jobs wait" in refused.json()["detail"]
    assert float(refused.headers["Retry-After"]) >= 1
    job = ports.jobs.records[first["id"]]
    ports.jobs.records[job.id] = replace(job, state=JobState.RUNNING, done=20, failed=4)
    assert (await http.post("/v1/heads", json={"dataset": "ds-small"})).status_code == 202


async def test_open_jobs_are_limited_in_number(http: httpx.AsyncClient, ports: Ports) -> None:
    stored_dataset(ports, "ds-small", 1)
    made = [await http.post("/v1/feature-sets", json={"dataset": "ds-small"}) for _ in range(3)]
    assert [one.status_code for one in made] == [202, 202, 429]
    ports.jobs.advance(made[0].json()["id"], JobState.CANCELLED)
    assert (await http.post("/v1/feature-sets", json={"dataset": "ds-small"})).status_code == 202

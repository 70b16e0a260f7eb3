from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.api.fakes import worker

if TYPE_CHECKING:
    import httpx

    from tests.unit.api.conftest import Ports


async def test_every_worker_is_asked_and_told(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.alive = [worker("w1"), worker("w2")]
    answer = await http.get("/v1/selftest?backbone=vgg16&weights=random:0")
    told = answer.json()
    assert (answer.status_code, told["passed"]) == (200, True)
    assert [one["worker"] for one in told["reports"]] == ["w1", "w2"]
    assert told["reports"][0]["checks"][0]["tolerance"] == 1e-4
    assert ports.selftests.asked == [("vgg16", "random:0", 5.0)]


async def test_one_that_fails_or_is_silent_fails_all(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.alive = [worker("w1"), worker("w2")]
    ports.selftests.silent = {"w2"}
    told = (await http.get("/v1/selftest")).json()
    assert (told["passed"], told["reports"][0]["passed"]) == (False, True)
    assert told["reports"][1]["error"]["code"] == "deadline_exceeded"
    ports.selftests.silent, ports.selftests.failing = set(), {"w1"}
    assert (await http.get("/v1/selftest")).json()["passed"] is False


async def test_without_workers_there_is_nothing_to_test(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    ports.directory.alive = []
    answer = await http.get("/v1/selftest")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")


@pytest.mark.parametrize("query", ["weights=random:x", "weights=a/b", "backbone=" + "x" * 65])
async def test_parameters_are_checked(http: httpx.AsyncClient, query: str) -> None:
    assert (await http.get(f"/v1/selftest?{query}")).status_code == 422

"""Liveness, readiness, backbones and metrics: what the workers and Redis say, told truthfully."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from offshelf.errors import DependencyError
from offshelf.schemas.backbones import BackboneBody, ResidentBody, VariantBody
from tests.unit.api.fakes import backbone, files, worker

if TYPE_CHECKING:
    import httpx

    from tests.unit.api.conftest import Ports

WORKER_TEXT = """\
# HELP offshelf_decode_seconds Time to decode.
# TYPE offshelf_decode_seconds histogram
offshelf_decode_seconds_bucket{le="0.1"} 2.0
offshelf_decode_seconds_bucket{le="+Inf"} 3.0
offshelf_decode_seconds_count 3.0
offshelf_decode_seconds_sum 0.5
# HELP offshelf_worker_images_total Images.
# TYPE offshelf_worker_images_total counter
offshelf_worker_images_total{outcome="ok"} 7.0
# HELP offshelf_worker_images_created Images.
# TYPE offshelf_worker_images_created gauge
offshelf_worker_images_created{outcome="ok"} 1e9
"""


@pytest.mark.parametrize("path", ["/readyz", "/health"])
async def test_ready_with_a_ready_worker(path: str, http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.alive = [worker("w1"), worker("w2", ready=False)]
    ports.directory.queued = 3
    answer = await http.get(path)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["status"], told["queued_images"]) == ("ready", 3)
    assert [(w["id"], w["ready"], w["detail"]) for w in told["workers"]] == [
        ("w1", True, "canary: alexnet ok"),
        ("w2", False, "canary: alexnet gave NaN"),
    ]


async def test_not_ready_without_workers(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.alive = []
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")
    assert answer.json()["reasons"] == ["no worker is alive"]
    assert (await http.get("/livez")).status_code == 200


@pytest.mark.parametrize("path", ["/readyz", "/v1/backbones"])
async def test_what_is_away_is_named_in_the_log_alone(
    path: str, http: httpx.AsyncClient, ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    ports.directory.failure = DependencyError("no answer of redis://me:s3cret@host")
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
    assert "s3cret" not in answer.text
    assert "redis://me:s3cret@host" in caplog.text


async def test_not_ready_while_the_canary_fails(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.alive = [worker("w1", ready=False)]
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert "w1: canary: alexnet gave NaN" in answer.json()["detail"]


async def test_not_ready_without_redis(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.failure = DependencyError("Redis is away")
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
    assert (await http.get("/v1/backbones")).status_code == 503


async def test_backbones_of_all_workers_are_merged(http: httpx.AsyncClient, ports: Ports) -> None:
    there = ResidentBody(backbone="vgg16", weights="IMAGENET1K_V1", bytes=553)
    ports.directory.alive = [worker("w1"), worker("w2", resident=[there])]
    ports.directory.told = {
        "w1": [backbone("vgg16", present=False), backbone("alexnet")],
        "w2": [backbone("vgg16")],
    }
    page = (await http.get("/v1/backbones")).json()
    assert [b["name"] for b in page["items"]] == ["alexnet", "vgg16"]
    one = (await http.get("/v1/backbones/vgg16")).json()
    assert one["weights"] == {"present": True}
    assert one["resident"] == [
        {
            "worker": "w2",
            "host": "here",
            "device": "cpu",
            "weights": "IMAGENET1K_V1",
            "bytes": 553,
            "state": "ready",
        }
    ]
    missing = await http.get("/v1/backbones/vgg17")
    assert missing.status_code == 404
    assert "did you mean vgg16" in missing.json()["detail"]


async def test_backbones_without_workers_are_503(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.alive = []
    answer = await http.get("/v1/backbones")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")


async def samples(http: httpx.AsyncClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_metrics_of_the_api_count_requests_and_images(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    ports.directory.queued = 5
    await http.post("/v1/features", files=files(b"a", b"bad"))
    await http.get("/v1/jobs/none")
    await http.get("/nowhere")
    found = await samples(http)
    requests = "offshelf_http_requests_total"
    assert found[requests, (("method", "POST"), ("route", "/v1/features"), ("status", "200"))] == 1
    assert found[requests, (("method", "GET"), ("route", "/v1/jobs/{job_id}"), ("status", "404"))]
    assert found[requests, (("method", "GET"), ("route", "unmatched"), ("status", "404"))] == 1
    assert found["offshelf_api_images_total", (("outcome", "ok"),)] == 1
    assert found["offshelf_api_images_total", (("outcome", "error"),)] == 1
    assert found["offshelf_queued_images", ()] == 5
    assert found["offshelf_redis_up", ()] == 1
    assert not [name for name, _ in found if name.endswith("_created")]


async def test_metrics_of_workers_are_told_apart(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.alive = [
        worker("w1", metrics=WORKER_TEXT),
        worker("w2", metrics=WORKER_TEXT),
        worker("w3", metrics="{ nonsense"),
    ]
    found = await samples(http)
    for name in ("w1", "w2"):
        labels = (("outcome", "ok"), ("worker", name))
        assert found["offshelf_worker_images_total", labels] == 7
        assert found["offshelf_decode_seconds_bucket", (("le", "0.1"), ("worker", name))] == 2


async def test_metrics_are_there_without_redis(http: httpx.AsyncClient, ports: Ports) -> None:
    ports.directory.failure = DependencyError("Redis is away")
    assert (await samples(http))["offshelf_redis_up", ()] == 0


async def test_a_variant_is_present_where_any_worker_has_it(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    def having(*present: str, names: str) -> BackboneBody:
        variants = [
            VariantBody(name=n, top1=None, licence="", preprocessing={}, present=n in present)
            for n in names
        ]
        return backbone("vgg16", present="a" in present).model_copy(update={"variants": variants})

    ports.directory.alive = [worker("w1"), worker("w2")]
    ports.directory.told = {"w1": [having("b", names="abc")], "w2": [having("a", names="abd")]}
    told = (await http.get("/v1/backbones/vgg16")).json()
    assert told["weights"] == {"present": True}
    there = {variant["name"]: variant["present"] for variant in told["variants"]}
    assert there == {"a": True, "b": True, "c": False, "d": False}

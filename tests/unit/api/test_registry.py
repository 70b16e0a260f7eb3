"""/v1/heads by name: references, lists, tags, comparison and exports."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from offshelf.core.jobs import JobState
from offshelf.heads.exports import safetensors_file
from offshelf.schemas.registry import ExportRecord
from offshelf.store import layout
from tests.unit.api.fakes import files
from tests.unit.heads.cards import keep

if TYPE_CHECKING:
    import httpx

    from tests.unit.api.conftest import Ports


@pytest.fixture
def flowers(ports: Ports) -> None:
    """Two versions of one name, and a head without one."""
    keep(ports.store, "head-1", "flowers")
    keep(ports.store, "head-2", "flowers", kind="logreg", dataset="ds-2")
    keep(ports.store, "head-3")


@pytest.mark.usefixtures("flowers")
async def test_heads_are_named_everywhere(http: httpx.AsyncClient, ports: Ports) -> None:
    assert (await http.put("/v1/heads/flowers:1/tags/prod")).json()["tags"] == ["prod"]
    for ref, head_id in (("flowers", "head-2"), ("flowers:1", "head-1"), ("flowers:prod", "head-1"),
                         ("head-3", "head-3"), ("flowers%3A2", "head-2")):  # fmt: skip
        shown = (await http.get(f"/v1/heads/{ref}")).json()
        assert shown["id"] == head_id
        predicted = (await http.post(f"/v1/heads/{ref}/predict", files=files(b"a"))).json()
        # The fake network has other weights: the refusal names the head and what differs.
        assert predicted["code"] == "fingerprint_mismatch"
        assert f"head {head_id} was trained on other features" in predicted["detail"]
        assert "weights_digest" in predicted["detail"]
    assert (await http.get("/v1/heads/flowers")).json()["version"] == 2
    assert (await http.delete("/v1/heads/flowers:2")).status_code == 204
    assert (await http.get("/v1/heads/flowers")).json()["id"] == "head-1"
    gone = await http.get("/v1/heads/flowers:2")
    assert (gone.status_code, "was deleted" in gone.json()["detail"]) == (404, True)


@pytest.mark.usefixtures("flowers")
async def test_a_head_is_named_after_its_training(http: httpx.AsyncClient) -> None:
    named = await http.put("/v1/heads/head-3/name", json={"name": "flowers"})
    assert (named.json()["id"], named.json()["version"]) == ("head-3", 3)
    assert (await http.get("/v1/heads/flowers")).json() == named.json()
    assert len((await http.get("/v1/heads?name=flowers")).json()["items"]) == 3
    for ref, name, why in (("flowers:1", "birds", "keeps that name"), ("head-3", "", "keeps")):
        refused = await http.put(f"/v1/heads/{ref}/name", json={"name": name})
        assert (refused.status_code, why in refused.json()["detail"]) == (422, True)
    refused = await http.get("/v1/heads?name=two+words")
    assert (refused.status_code, "a head's name" in refused.json()["detail"]) == (422, True)


@pytest.mark.usefixtures("flowers")
async def test_lists_take_filters(http: httpx.AsyncClient) -> None:
    await http.put("/v1/heads/flowers:1/tags/prod")

    async def ids(query: str) -> list[str]:
        answer = (await http.get(f"/v1/heads?{query}")).json()
        return [card["id"] for card in answer["items"]]

    assert await ids("name=flowers") == ["head-1", "head-2"]
    assert await ids("kind=logreg") == ["head-2"]
    assert await ids("dataset=ds-1") == ["head-1", "head-3"]
    assert await ids("tag=prod") == ["head-1"]
    assert (await http.get("/v1/heads?kind=forest")).status_code == 422
    page = (await http.get("/v1/heads?name=flowers&limit=1")).json()
    assert (page["has_more"], page["after"], len(page["items"])) == (True, "head-1", 1)


@pytest.mark.usefixtures("flowers")
async def test_tags_are_moved_and_removed(http: httpx.AsyncClient) -> None:
    await http.put("/v1/heads/flowers:1/tags/prod")
    await http.put("/v1/heads/flowers:2/tags/prod")
    assert (await http.get("/v1/heads/flowers:prod")).json()["id"] == "head-2"
    assert (await http.delete("/v1/heads/head-1/tags/prod")).status_code == 404
    assert (await http.delete("/v1/heads/head-2/tags/prod")).status_code == 204
    assert (await http.get("/v1/heads/flowers:prod")).status_code == 404
    for path in ("flowers/tags/7", "flowers/tags/latest", "head-3/tags/prod"):
        assert (await http.put(f"/v1/heads/{path}")).status_code == 422


@pytest.mark.usefixtures("flowers")
async def test_two_heads_are_compared(http: httpx.AsyncClient) -> None:
    told = (await http.get("/v1/heads/compare?head=flowers:1&head=flowers:2")).json()
    assert (told["a"]["version"], told["b"]["version"], told["fair"]) == (1, 2, False)
    assert "two datasets: ds-1 and ds-2" in told["reasons"][0]
    assert [d["field"] for d in told["training"]] == ["kind"]
    one = await http.get("/v1/heads/compare?head=flowers:1")
    assert (one.status_code, "two heads" in one.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("name", "status"), [("flowers", 202), ("a b", 422), ("head-1", 422), ("compare", 422)]
)
async def test_names_are_checked_before_training(
    name: str, status: int, http: httpx.AsyncClient, pets: bytes
) -> None:
    dataset = (await http.post("/v1/datasets", files={"archive": ("p.zip", pets)})).json()
    body = {"dataset": dataset["id"], "name": name}
    answer = await http.post("/v1/heads", json=body)
    assert answer.status_code == status
    if status == 422:
        assert "a head's name" in answer.json()["detail"]


@pytest.mark.usefixtures("flowers")
@pytest.mark.parametrize("kind", ["safetensors", "python", "onnx"])
async def test_a_head_is_downloaded_with_its_digest(kind: str, http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/heads/flowers:2/export", params={"format": kind})
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    digest = hashlib.sha256(answer.content)
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    told = base64.b64encode(digest.digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{told}:"
    assert 'filename="flowers-2.' in answer.headers["content-disposition"]
    if kind == "safetensors":
        assert safetensors_file.unpack(answer.content).card.id == "head-2"


@pytest.mark.usefixtures("flowers")
async def test_what_a_worker_makes_is_asked_for_then_downloaded(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    early = await http.get("/v1/heads/flowers/export?format=onnx-full")
    assert (early.status_code, "POST" in early.json()["detail"]) == (404, True)
    asked = await http.post("/v1/heads/flowers/export", json={"format": "onnx-full"})
    assert asked.status_code == 202
    job = asked.json()
    assert (job["kind"], asked.headers["location"]) == ("export", f"/v1/jobs/{job['id']}")
    assert job["params"] == {
        "head": "head-2", "format": "onnx-full", "backbone": "alexnet", "weights": None,
    }  # fmt: skip
    assert ports.job_queue.submitted == [job["id"]]

    content = bytes(range(256)) * 40
    record = ExportRecord(
        format="onnx-full", size=len(content), sha256=hashlib.sha256(content).hexdigest(),
        created_s=1.0, deviation=1e-6, versions={},
    )  # fmt: skip
    key = layout.head_export_file("default", "head-2", record.sha256)
    ports.store.put_new(key, content)
    key = layout.head_export("default", "head-2", "onnx-full")
    ports.store.put_new(key, record.model_dump_json().encode())
    answer = await http.get("/v1/heads/flowers/export?format=onnx-full")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["etag"] == f'"{record.sha256}"'
    path, headers = "/v1/heads/flowers:2/export?format=onnx-full", {"Range": "bytes=5000-5002"}
    part = await http.get(path, headers=headers)
    assert (part.status_code, part.content) == (206, content[5000:5003])
    ports.jobs.advance(job["id"], JobState.RUNNING)
    result = {"export": "head-2", **record.model_dump()}
    ports.jobs.advance(job["id"], JobState.SUCCEEDED, result=result)
    links = (await http.get(f"/v1/jobs/{job['id']}")).json()["links"]
    assert links["export"] == "/v1/heads/head-2/export?format=onnx-full"


async def test_heads_without_an_onnx_form_are_refused_at_once(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    keep(ports.store, "head-1", regions=["body", "head"])
    answer = await http.post("/v1/heads/head-1/export", json={"format": "onnx-full"})
    assert (answer.status_code, "the regions body, head" in answer.json()["detail"]) == (422, True)
    assert ports.job_queue.submitted == []
    assert (await http.get("/v1/heads/head-1/export?format=pmml")).status_code == 422
    assert (await http.get("/v1/heads/head-1/export?format=onnx")).status_code == 200

"""/v1/feature-sets: manifests as the workers write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf.schemas.base import ErrorBody
from offshelf.schemas.feature_sets import FeatureSet
from offshelf.store import layout
from tests.unit.api.fakes import WEIGHTS

if TYPE_CHECKING:
    import httpx

    from tests.unit.api.conftest import Ports


def stored(ports: Ports, name: str) -> FeatureSet:
    made = FeatureSet(
        id=name,
        owner="default",
        dataset="ds-1",
        created_s=1.0,
        specs={"fc7": {"tap": "fc7"}},
        fingerprints={"fc7": "f" * 64},
        weights=WEIGHTS,
        shards=1,
        total=3,
        kept=[0, 2],
        errors={1: ErrorBody(code="invalid_image", message="not an image")},
    )
    ports.store.put_new(layout.feature_set("default", name), made.model_dump_json().encode())
    return made


async def test_feature_sets_are_listed_in_pages_and_shown(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    made = {name: stored(ports, name).model_dump(mode="json") for name in ("f1", "f2", "f3")}
    first = (await http.get("/v1/feature-sets?limit=2")).json()
    assert [(s["id"], s["rows"], s["failed"]) for s in first["items"]] == [
        ("f1", 2, 1),
        ("f2", 2, 1),
    ]
    assert all("kept" not in s and "errors" not in s for s in first["items"])
    rest = (await http.get("/v1/feature-sets", params={"after": first["after"]})).json()
    assert [s["id"] for s in rest["items"]] == ["f3"]
    told = (await http.get("/v1/feature-sets/f2")).json()
    assert FeatureSet.model_validate(told) == FeatureSet.model_validate(made["f2"])
    assert told["errors"]["1"]["code"] == "invalid_image"


def mark(ports: Ports, made: FeatureSet) -> None:
    """The set as a worker leaves it: its shard and the mark of its use."""
    for tap in made.fingerprints:
        shelf = made.shelf(tap)
        ports.store.put_new(layout.shard(made.dataset, shelf, 0), b"rows")
        ports.store.put_new(layout.use(made.dataset, shelf, made.owner, made.id), b"")


async def test_a_deleted_set_takes_its_shards_along_unless_another_has_them(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    for name in ("f1", "f2"):
        mark(ports, stored(ports, name))
    shard = layout.shard("ds-1", "f" * 64, 0)
    assert (await http.delete("/v1/feature-sets/f1")).status_code == 204
    assert (await http.get("/v1/feature-sets/f1")).status_code == 404
    assert ports.store.exists(shard)
    assert (await http.delete("/v1/feature-sets/f2")).status_code == 204
    assert not ports.store.exists(shard)
    assert (await http.delete("/v1/feature-sets/f2")).status_code == 404


async def test_a_set_on_whose_dataset_a_job_works_is_not_deleted(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    mark(ports, stored(ports, "f1"))
    job, _ = ports.jobs.create("head", "default", {"dataset": "ds-1"})
    refused = await http.delete("/v1/feature-sets/f1")
    assert refused.status_code == 409
    assert job.id in refused.json()["detail"]
    ports.jobs.cancel(job.id, "default")
    assert (await http.delete("/v1/feature-sets/f1")).status_code == 204


@pytest.mark.parametrize("path", ["/v1/feature-sets", "/v1/heads"])
async def test_a_view_of_boxes_is_refused_before_a_job_is_made(
    http: httpx.AsyncClient, path: str
) -> None:
    answer = await http.post(path, json={"dataset": "d", "taps": ["fc7"], "view": "maps:300"})
    assert answer.status_code == 422
    assert "take dense:Q1,Q2" in answer.text

"""/v1/feature-sets: manifests as the workers write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

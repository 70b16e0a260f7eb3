"""/v1/datasets: uploading, registering, adding, listing, showing and deleting."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from offshelf.api.app import create_app
from offshelf.core.jobs import JobState
from offshelf.datasets import records
from offshelf.datasets.sources import Sources
from offshelf.errors import DependencyError
from offshelf.schemas.datasets import DatasetJob
from offshelf.schemas.feature_sets import FeatureSet
from offshelf.store import layout
from tests.unit.api.fakes import WEIGHTS
from tests.unit.pictures import picture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from offshelf.settings import Settings
    from tests.unit.api.conftest import Ports


async def upload(http: httpx.AsyncClient, archive: bytes, name: str = "pets") -> httpx.Response:
    return await http.post(
        "/v1/datasets", files={"archive": ("pets.zip", archive)}, data={"name": name}
    )


async def test_an_upload_makes_a_dataset_of_its_folders(
    http: httpx.AsyncClient, ports: Ports, pets: bytes
) -> None:
    answer = await upload(http, pets)
    told = answer.json()
    assert answer.status_code == 201
    assert told["counts"] == {"cat": 2, "dog": 1}
    assert (told["name"], told["total"], told["created_s"]) == ("pets", 3, 1000.0)
    assert answer.headers["location"] == f"/v1/datasets/{told['id']}"
    assert (await http.get(answer.headers["location"])).json() == told
    dataset = records.load(ports.store, "default", told["id"])
    assert [ports.store.get(layout.blob(item.sha256)) for item in dataset.items] == [
        picture(path) for path in ("cat/1", "cat/2", "dog/1")
    ]


@pytest.mark.parametrize("media", ["application/zip", "application/octet-stream"])
async def test_the_archive_may_be_the_whole_body(
    media: str, http: httpx.AsyncClient, pets: bytes
) -> None:
    answer = await http.post(
        "/v1/datasets?name=mine", content=pets, headers={"content-type": media}
    )
    assert (answer.status_code, answer.json()["name"]) == (201, "mine")


async def test_the_same_upload_is_the_same_dataset(http: httpx.AsyncClient, pets: bytes) -> None:
    first, second = await upload(http, pets, "one"), await upload(http, pets, "two")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len((await http.get("/v1/datasets")).json()["items"]) == 1


async def test_an_unnamed_upload_is_called_like_its_file(
    http: httpx.AsyncClient, pets: bytes
) -> None:
    answer = await http.post("/v1/datasets", files={"archive": ("pets.zip", pets)})
    assert answer.json()["name"] == "pets.zip"


MIT67 = {
    **{f"Images/{path}.jpg": picture(path) for path in ("bar/1", "zoo/1", "zoo/2")},
    "TrainImages.txt": b"bar/1.jpg\nzoo/1.jpg", "TestImages.txt": b"zoo/2.jpg",
}  # fmt: skip


@pytest.mark.parametrize("where", ["form", "query", "body"])
async def test_an_upload_is_read_by_the_protocol_it_names(
    where: str, http: httpx.AsyncClient, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    archive = {"archive": ("mit.zip", zipped(MIT67))}
    if where == "form":
        answer = await http.post("/v1/datasets", files=archive, data={"protocol": "mit67"})
    elif where == "query":
        answer = await http.post("/v1/datasets?protocol=mit67", files=archive)
    else:
        answer = await http.post(
            "/v1/datasets?protocol=mit67",
            content=archive["archive"][1],
            headers={"content-type": "application/zip"},
        )
    told = answer.json()
    assert answer.status_code == 201, told
    assert told["protocol"] == {
        "name": "mit67", "multi_label": False, "metrics": ["mean_class_accuracy", "accuracy"],
        "regions": [], "counts": {"bar": 1, "zoo": 2},
        "splits": [{"name": "official", "train": 2, "val": 0, "test": 1}],
    }  # fmt: skip
    assert (await http.get("/v1/datasets")).json()["items"] == [told]


async def test_what_a_protocol_misses_is_told(
    http: httpx.AsyncClient, ports: Ports, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    files = {path: data for path, data in MIT67.items() if path != "Images/zoo/2.jpg"}
    archive = {"archive": ("mit.zip", zipped(files))}
    answer = await http.post("/v1/datasets", files=archive, data={"protocol": "mit67"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert "missing images: Images/zoo/2.jpg" in answer.json()["detail"]
    assert list(ports.store.keys("")) == []
    answer = await http.post("/v1/datasets", files=archive, data={"protocol": "mit76"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_name")
    assert "did you mean mit67?" in answer.json()["detail"]


async def test_pages_give_every_dataset_once(
    http: httpx.AsyncClient, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    made = {(await upload(http, zipped({f"a/{i}.jpg": picture()}))).json()["id"] for i in range(5)}
    seen: list[str] = []
    after: str | None = None
    while True:
        query: dict[str, Any] = {"limit": 2} | ({"after": after} if after else {})
        page = (await http.get("/v1/datasets", params=query)).json()
        seen += [dataset["id"] for dataset in page["items"]]
        after = page["after"]
        assert page["has_more"] == (after is not None)
        if after is None:
            break
    assert seen == sorted(made)


async def test_a_refused_upload_leaves_no_dataset(
    http: httpx.AsyncClient, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    answer = await upload(http, zipped({"cat/1.jpg": picture(), "../2.jpg": picture()}))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert (await http.get("/v1/datasets")).json()["items"] == []


async def test_a_store_that_is_away_is_503(
    http: httpx.AsyncClient, ports: Ports, pets: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bool:
        raise DependencyError("the store is full")

    monkeypatch.setattr(ports.store, "put_new", away)
    answer = await upload(http, pets)
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "cat" / "1.png").write_bytes(picture("cat"))
    return tmp_path


@pytest.fixture
async def reader(ports: Ports, settings: Settings, root: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An API that may read a folder."""
    services = replace(ports.services(), sources=Sources([str(root)]))
    transport = httpx.ASGITransport(create_app(services, settings), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


async def test_a_source_is_registered_by_a_job(
    reader: httpx.AsyncClient, ports: Ports, root: Path
) -> None:
    source = str(root / "pets")
    answer = await reader.post("/v1/datasets", json={"source": source, "copy": True, "name": "x"})
    told = answer.json()
    assert (answer.status_code, told["kind"]) == (202, "dataset")
    assert answer.headers["location"] == f"/v1/jobs/{told['id']}"
    assert ports.job_queue.submitted == [told["id"]]
    assert DatasetJob.model_validate(told["params"]) == DatasetJob(
        source=source, copied=True, name="x"
    )
    ports.jobs.advance(told["id"], JobState.RUNNING)
    ports.jobs.advance(told["id"], JobState.SUCCEEDED, result={"dataset": "ds-1"})
    shown = (await reader.get(answer.headers["location"])).json()
    assert shown["links"]["dataset"] == "/v1/datasets/ds-1"


async def test_the_same_key_registers_once(reader: httpx.AsyncClient, root: Path) -> None:
    body, key = {"source": str(root)}, {"idempotency-key": "k"}
    jobs = [(await reader.post("/v1/datasets", json=body, headers=key)).json() for _ in range(2)]
    assert jobs[0]["id"] == jobs[1]["id"]


@pytest.mark.parametrize("source", ["/etc", "/nothing", "s3://bucket/x", "/"])
async def test_what_may_not_be_read_is_refused_at_once_and_all_alike(
    source: str, reader: httpx.AsyncClient, ports: Ports
) -> None:
    answer = await reader.post("/v1/datasets", json={"source": source})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert answer.json()["detail"] == (
        f"the service may not read {source!r}: what it may read is set by OFFSHELF_DATASET_SOURCES"
    )
    assert ports.jobs.records == {}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "source"),
        ({"source": 3}, "source"),
        ({"source": "/x", "paths": []}, "paths"),
        ({"source": "/x", "layout": "tree"}, "layout"),
        ({"source": "/x", "copy": "perhaps"}, "copy"),
        ({"source": "/x", "protocol": "voc2007", "layout": "folder"}, "not both"),
    ],
)
async def test_a_source_that_is_asked_for_wrongly_says_what_is_wrong(
    body: dict[str, Any], told: str, reader: httpx.AsyncClient
) -> None:
    answer = await reader.post("/v1/datasets", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert told in answer.json()["detail"]


async def test_a_json_body_is_bounded(reader: httpx.AsyncClient) -> None:
    content = b'{"source": "' + b"x" * 70_000
    answer = await reader.post(
        "/v1/datasets", content=content, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_images_are_added_as_a_version(
    http: httpx.AsyncClient, pets: bytes, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    first = (await upload(http, pets)).json()
    more = {"archive": ("m.zip", zipped({"cow/1.jpg": picture("cow")}))}
    answer = await http.post(f"/v1/datasets/{first['id']}/images", files=more)
    second = answer.json()
    assert answer.status_code == 201
    assert (second["name"], second["version"], second["parent"]) == ("pets", 2, first["id"])
    assert second["counts"] == {"cat": 2, "cow": 1, "dog": 1}
    again = await http.post(f"/v1/datasets/{first['id']}/images", files=more)
    assert (again.status_code, again.json()) == (200, second)
    assert (await http.get("/v1/datasets/pets")).json() == second
    assert (await http.get("/v1/datasets/pets:1")).json() == first


async def test_a_name_will_do_wherever_an_id_does(
    http: httpx.AsyncClient, pets: bytes, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    first = (await upload(http, pets)).json()
    more = {"archive": ("m.zip", zipped({"cow/1.jpg": picture("cow")}))}
    second = (await http.post("/v1/datasets/pets/images", files=more)).json()
    assert (second["version"], second["parent"]) == (2, first["id"])
    for name, meant in (("pets", second), ("pets:1", first)):
        for route in ("/v1/feature-sets", "/v1/heads"):
            job = await http.post(route, json={"dataset": name, "taps": ["fc7"]})
            assert (job.status_code, job.json()["params"]["dataset"]) == (202, meant["id"])
    assert (
        await http.post("/v1/heads", json={"dataset": "dogs", "taps": ["fc7"]})
    ).status_code == 404


async def test_images_of_a_source_are_added_by_a_job(
    reader: httpx.AsyncClient, pets: bytes, root: Path
) -> None:
    first = (await upload(reader, pets)).json()
    body = {"source": str(root / "pets")}
    answer = await reader.post(f"/v1/datasets/{first['id']}/images", json=body)
    assert answer.status_code == 202
    job = DatasetJob.model_validate(answer.json()["params"])
    assert (job.parent, job.name) == (first["id"], "pets")


async def test_the_versions_of_a_name_come_newest_first_in_pages(
    http: httpx.AsyncClient, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    for number in range(5):
        await upload(http, zipped({f"a/{number}.jpg": picture()}))
    await upload(http, zipped({"a/9.jpg": picture()}), name="other")
    seen: list[int] = []
    query: dict[str, Any] = {"name": "pets", "limit": 2}
    while True:
        page = (await http.get("/v1/datasets", params=query)).json()
        seen += [dataset["version"] for dataset in page["items"]]
        if not page["has_more"]:
            break
        query["after"] = page["after"]
    assert seen == [5, 4, 3, 2, 1]


async def test_an_ambiguous_upload_says_what_to_choose_and_stores_nothing(
    http: httpx.AsyncClient, ports: Ports, zipped: Callable[[dict[str, bytes]], bytes]
) -> None:
    files = {"images/1.x/a.jpg": picture(), "image_class_labels.txt": b"1 1"}
    answer = await upload(http, zipped(files))
    assert answer.status_code == 422
    assert "'image_class_labels.txt': name the protocol" in answer.json()["detail"]
    assert list(ports.store.keys("")) == []
    archive = {"archive": ("x.zip", zipped(files))}
    answer = await http.post("/v1/datasets", files=archive, data={"layout": "folder"})
    assert (answer.status_code, answer.json()["layout"]) == (201, "folder")
    assert answer.json()["skipped"] == [
        {"path": "image_class_labels.txt", "reason": "no image by its name"}
    ]


async def test_a_deleted_dataset_is_gone_and_can_come_again(
    http: httpx.AsyncClient, pets: bytes
) -> None:
    told = (await upload(http, pets)).json()
    where = f"/v1/datasets/{told['id']}"
    assert (await http.delete(where)).status_code == 204
    assert (await http.get(where)).status_code == 404
    assert (await http.delete(where)).status_code == 404
    answer = await upload(http, pets)
    assert (answer.status_code, answer.json()) == (201, told)


async def test_a_dataset_in_use_is_not_deleted(
    http: httpx.AsyncClient, ports: Ports, pets: bytes
) -> None:
    told = (await upload(http, pets)).json()
    where = f"/v1/datasets/{told['id']}"
    body = {"dataset": told["id"], "taps": ["fc7"]}
    job = (await http.post("/v1/feature-sets", json=body)).json()
    answer = await http.delete(where)
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert job["id"] in answer.json()["detail"]
    ports.jobs.advance(job["id"], JobState.CANCELLED)
    features = feature_set(told["id"])
    ports.store.put_new(
        layout.feature_set("default", features.id), features.model_dump_json().encode()
    )
    answer = await http.delete(where)
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert features.id in answer.json()["detail"]
    assert (await http.delete(f"{where}?feature_sets=true")).status_code == 204
    assert (await http.get(f"/v1/feature-sets/{features.id}")).status_code == 404


def feature_set(dataset_id: str) -> FeatureSet:
    return FeatureSet(
        id="features-1", owner="default", dataset=dataset_id, created_s=1.0, specs={},
        fingerprints={}, weights=WEIGHTS, shards=1, total=3, kept=[0, 1, 2], errors={},
    )  # fmt: skip

"""/v1/datasets: uploading, listing and showing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from offshelf.datasets import records
from offshelf.errors import DependencyError
from offshelf.store import layout
from tests.unit.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

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

"""Sources, added images, versions and deletions, as the SDK and the command line ask for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

import offshelf_client as sdk
from tests.unit.cli.test_cli import answer, fake, run  # noqa: F401  # a fixture
from tests.unit.client.fake_service import FakeService, job_body, problem, read_form
from tests.unit.client.test_datasets_and_heads import DATASET, folder

if TYPE_CHECKING:
    from pathlib import Path

DONE = job_body("j1", "succeeded", kind="dataset", result={"dataset": "d1"})
SKIPPED = [{"path": "a/x.jpg", "reason": "the image is empty (0 bytes)"}]
SECOND = DATASET | {
    "version": 2, "parent": "d0", "source": "/data/flowers", "copied": False,
    "skipped": SKIPPED, "skipped_total": 3,
}  # fmt: skip


@pytest.fixture
def service(fake: FakeService) -> FakeService:  # noqa: F811
    for method, path, status, body in (
        ("POST", "/v1/datasets", 202, DONE),
        ("POST", "/v1/datasets/d0/images", 202, DONE),
        ("GET", "/v1/jobs/j1", 200, DONE),
        ("GET", "/v1/datasets/d1", 200, SECOND),
        ("GET", "/v1/datasets/flowers:2", 200, SECOND),
        ("GET", "/v1/datasets", 200, {"items": [SECOND], "has_more": False, "after": None}),
    ):
        fake.routes[method, path] = lambda _, s=status, b=body: httpx.Response(s, json=b)
    fake.routes["DELETE", "/v1/datasets/d1"] = lambda _: httpx.Response(204)
    return fake


def test_a_source_is_registered_and_its_dataset_awaited(service: FakeService) -> None:
    with sdk.Client("http://x", transport=service.transport) as client:
        job = client.datasets.register("/data/flowers", name="flowers", copy=True)
        dataset = job.dataset()
    assert json.loads(service.requests[0].content) == {
        "source": "/data/flowers", "name": "flowers", "layout": "auto", "copy": True,
    }  # fmt: skip
    assert service.requests[0].headers["idempotency-key"]
    assert (dataset.version, dataset.parent, dataset.source) == (2, "d0", "/data/flowers")
    assert dataset.skipped == (sdk.SkippedFile("a/x.jpg", "the image is empty (0 bytes)"),)


def test_the_job_of_something_else_makes_no_dataset() -> None:
    fake = FakeService(  # noqa: F811
        routes={("GET", "/v1/jobs/j1"): lambda _: httpx.Response(200, json=job_body("j1"))}
    )
    with sdk.Client(transport=fake.transport) as client:
        job = client.jobs.get("j1")
        with pytest.raises(sdk.JobConflictError, match="makes no dataset"):
            job.dataset()


def test_images_are_added_to_a_version(service: FakeService, tmp_path: Path) -> None:
    service.routes["POST", "/v1/datasets/d1/images"] = answer(SECOND)
    with sdk.Client("http://x", transport=service.transport) as client:
        dataset = client.datasets.get("flowers:2")
        added = client.datasets.add_images(dataset.id, folder(tmp_path))
        client.datasets.add_registered("d0", "/data/more")
    assert added.version == 2
    ((field, _, _),), fields = read_form(service.requests[1])
    assert (field, fields) == ("archive", {})
    assert json.loads(service.requests[2].content) == {"source": "/data/more", "copy": False}


def test_versions_are_listed_by_name(service: FakeService) -> None:
    with sdk.Client("http://x", transport=service.transport) as client:
        (dataset,) = client.datasets.list(name="flowers")
        client.datasets.list()
    assert dataset.version == 2
    assert [request.url.params.get("name") for request in service.requests] == ["flowers", None]


def test_a_dataset_in_use_is_an_error_of_its_own(service: FakeService) -> None:
    with sdk.Client("http://x", transport=service.transport) as client:
        client.datasets.delete("d1")
        client.datasets.delete("d1", feature_sets=True)
        service.routes["DELETE", "/v1/datasets/d1"] = lambda _: problem(409, "in_use")
        with pytest.raises(sdk.InUseError):
            client.datasets.delete("d1")
    flags = [request.url.params.get("feature_sets") for request in service.requests]
    assert flags == [None, "true", None]


def test_the_command_line_registers_adds_lists_and_deletes(
    service: FakeService, tmp_path: Path
) -> None:
    shown = run("datasets", "register", "/data/flowers", "--name", "flowers").stdout
    assert "dataset d1, flowers, version 2, layout folder: 2 samples" in shown
    assert "source /data/flowers, read there" in shown
    assert shown.endswith("skipped a/x.jpg (the image is empty (0 bytes))\nskipped 2 more\n")
    assert run("datasets", "show", "flowers:2").stdout == shown
    assert run("datasets", "add", "d0", "/data/more", "--registered").stdout == shown
    service.routes["POST", "/v1/datasets/d1/images"] = answer(SECOND)
    assert run("datasets", "add", "d1", folder(tmp_path)).stdout == shown
    told = json.loads(run("datasets", "list", "--json").stdout)
    assert (told[0]["version"], told[0]["parent"]) == (2, "d0")
    done = run("datasets", "delete", "d1", "--feature-sets")
    assert (done.exit_code, service.requests[-1].method) == (0, "DELETE")

"""`offshelf extract` and `offshelf feature-sets` against an API and jobs in memory."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner, Result

import offshelf_client
from offshelf.api.app import create_app
from offshelf.cli import app
from offshelf.commands.extract_state import State, images_digest
from offshelf.settings import Settings
from offshelf_client._models import dataset_of
from tests.unit.api.conftest import Ports
from tests.unit.client.fake_service import FakeService, job_body, problem
from tests.unit.client.test_datasets_and_heads import DATASET
from tests.unit.exports.making import Made, made

if TYPE_CHECKING:
    from pathlib import Path

ID = "features-1"
MADE = job_body(kind="feature_set", state="succeeded", total=10, result={"feature_set": ID})


class Half(FakeService):
    """Jobs and datasets are told by the fake, feature sets by a real API."""

    api: TestClient

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" or "/feature-sets" not in request.url.path:
            return super().__call__(request)
        self.requests.append(request)
        path = request.url.raw_path.decode()
        answer = self.api.request(request.method, path, headers=dict(request.headers))
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def posts(self, path: str) -> list[httpx.Request]:
        """What was posted there."""
        return [r for r in self.requests if (r.method, r.url.path) == ("POST", path)]


@pytest.fixture
def one() -> Made:
    return made(Ports().store)


@pytest.fixture
def service(one: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Half:
    service = Half(
        routes={
            ("POST", "/v1/datasets"): lambda _: httpx.Response(201, json=DATASET),
            ("GET", f"/v1/datasets/{DATASET['id']}"): lambda _: httpx.Response(200, json=DATASET),
            ("POST", "/v1/feature-sets"): lambda _: httpx.Response(202, json=MADE),
            ("GET", "/v1/jobs/j1"): lambda _: httpx.Response(200, json=MADE),
        }
    )
    ports = Ports(store=one.store)  # type: ignore[arg-type]  # the store that Ports made
    service.api = TestClient(create_app(ports.services(), Settings(data_dir=tmp_path / "api")))
    client = partial(offshelf_client.Client, transport=service.transport)
    retry = offshelf_client.Retry(attempts=1)
    monkeypatch.setattr(offshelf_client, "Client", lambda url=None: client(url, retry=retry))
    return service


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label in "ab":
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 4), (1, 2, 3)).save(folder / "1.png")
    return tmp_path / "photos"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_folder_becomes_a_folder(service: Half, one: Made, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    taps = ["--tap", "fc7", "--tap", "conv5:pre"]
    done = run("extract", photos, "-o", out, "--backbone", "fakenet", *taps, "--format", "npy",
               "--format", "parquet", "--view", "squash", "--deterministic")  # fmt: skip
    assert done.exit_code == 0, done.output
    for tap, rows in one.rows.items():
        np.testing.assert_array_equal(np.load(out / f"{tap}.npy", mmap_mode="r"), rows)
        assert (out / f"{tap}.parquet").stat().st_size
    assert (out / "items.csv").read_text().splitlines()[:2] == [
        "path,label,row",
        "c0/0000.jpg,c0,0",
    ]
    assert len((out / "errors.csv").read_text().splitlines()) == 3
    assert json.loads((out / "manifest.json").read_text())["failed"] == 2
    assert "8x2x3x3" in done.stdout
    assert f"2 images failed: {out / 'errors.csv'}" in done.stderr
    (asked,) = service.posts("/v1/feature-sets")
    assert json.loads(asked.content) == {
        "dataset": DATASET["id"], "taps": ["fc7", "conv5:pre"], "backbone": "fakenet",
        "view": "squash", "normalize": "none", "deterministic": True,
    }  # fmt: skip


def test_files_that_are_not_in_the_dataset_are_listed_with_the_others(
    service: Half, photos: Path, tmp_path: Path
) -> None:
    out, skipped = tmp_path / "out", [{"path": "a/x.jpg", "reason": "the image is empty"}]
    made = DATASET | {"skipped": skipped, "skipped_total": 3}
    service.routes["POST", "/v1/datasets"] = lambda _: httpx.Response(201, json=made)
    listed = []
    for _ in range(2):  # the second uploads nothing, and the service may tell of another upload
        done = run("extract", photos, "-o", out, "--tap", "fc7")
        assert done.exit_code == 0, done.output
        assert f"3 files were left out: {out / 'errors.csv'} (the first 1 of them)" in done.stderr
        listed.append((out / "errors.csv").read_text().splitlines())
    assert listed[0] == listed[1]
    assert [line.split(",")[2] for line in listed[0]] == [
        "code", "invalid_image", "invalid_image", "left_out",
    ]  # fmt: skip
    assert listed[0][-1] == "a/x.jpg,,left_out,the image is empty"
    told = json.loads((out / "manifest.json").read_text())
    assert (told["failed"], told["left_out"], told["left_out_total"]) == (2, skipped, 3)


def test_again_it_uploads_and_asks_and_downloads_nothing(
    service: Half, photos: Path, tmp_path: Path
) -> None:
    arguments = ("extract", photos, "-o", tmp_path / "out", "--tap", "fc7")
    assert run(*arguments).exit_code == 0
    posts = len(service.posts("/v1/datasets") + service.posts("/v1/feature-sets"))
    service.requests.clear()
    again = run(*arguments)
    assert (again.exit_code, posts) == (0, 2)
    assert not [request for request in service.requests if request.method == "POST"]
    files = [request for request in service.requests if "/files/" in request.url.path]
    assert all("if-none-match" in request.headers for request in files)
    # Other features of the same images: a job, but no upload.
    service.requests.clear()
    assert run(*arguments, "--view", "squash").exit_code == 0
    assert not service.posts("/v1/datasets")
    assert len(service.posts("/v1/feature-sets")) == 1


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_a_job_that_came_to_nothing_is_asked_for_again(
    state: str, service: Half, photos: Path, tmp_path: Path
) -> None:
    arguments = ("extract", photos, "-o", tmp_path / "out", "--tap", "fc7")
    ended = job_body(kind="feature_set", state=state)
    service.routes["POST", "/v1/feature-sets"] = lambda _: httpx.Response(202, json=ended)
    service.routes["GET", "/v1/jobs/j1"] = lambda _: httpx.Response(200, json=ended)
    failed = run(*arguments)
    assert failed.exit_code == 1
    assert state in failed.stderr
    service.routes["POST", "/v1/feature-sets"] = lambda _: httpx.Response(202, json=MADE)
    assert run(*arguments).exit_code == 0
    assert len(service.posts("/v1/feature-sets")) == 2
    assert len(service.posts("/v1/datasets")) == 1


def test_a_dataset_that_was_deleted_is_uploaded_again(
    service: Half, photos: Path, tmp_path: Path
) -> None:
    arguments = ("extract", photos, "-o", tmp_path / "out", "--tap", "fc7")
    assert run(*arguments).exit_code == 0
    service.routes["GET", f"/v1/datasets/{DATASET['id']}"] = lambda _: problem(404, "unknown_name")
    assert run(*arguments).exit_code == 0
    assert len(service.posts("/v1/datasets")) == 2


def test_changed_images_are_another_upload(service: Half, photos: Path, tmp_path: Path) -> None:
    arguments = ("extract", photos, "-o", tmp_path / "out", "--tap", "fc7")
    assert run(*arguments).exit_code == 0
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "a" / "2.png")
    assert run(*arguments).exit_code == 0
    assert len(service.posts("/v1/datasets")) == 2


def test_no_feature_at_all_is_a_failure(
    service: Half, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = made(Ports().store, bad=range(10))
    ports = Ports(store=none.store)  # type: ignore[arg-type]  # the store that Ports made
    service.api = TestClient(create_app(ports.services(), Settings(data_dir=tmp_path / "api")))
    done = run("extract", photos, "-o", tmp_path / "out", "--tap", "fc7")
    assert done.exit_code == 1
    assert "no image has features" in done.stderr
    assert len((tmp_path / "out" / "errors.csv").read_text().splitlines()) == 11


def test_wrong_use_is_told(photos: Path, tmp_path: Path) -> None:
    assert run("extract", photos).exit_code == 2
    assert run("extract", tmp_path / "nowhere", "-o", tmp_path / "out").exit_code == 2
    wrong = run("extract", photos, "-o", tmp_path / "out", "--format", "csv")
    assert wrong.exit_code == 2
    assert "'parquet'" in wrong.stderr


def test_a_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    state = State("http://here", "digest", "ds-1", {"taps": ["fc7"]}, "j1")
    state.write(tmp_path)
    assert State.read(tmp_path) == state
    same, other = dataset_of(DATASET | {"id": "ds-1"}), dataset_of(DATASET | {"id": "ds-2"})
    assert state.with_dataset("http://here", "digest", same) == state
    assert state.with_dataset("http://here", "digest", other).job == ""
    (tmp_path / ".offshelf" / "state.json").write_text("{torn")
    assert State.read(tmp_path) == State()


def test_the_digest_of_images_is_of_names_sizes_and_times(photos: Path) -> None:
    first = images_digest(photos)
    assert images_digest(photos) == first
    (photos / "a" / "1.png").rename(photos / "a" / "3.png")
    assert images_digest(photos) != first


def test_feature_sets_are_listed_shown_and_downloaded(
    service: Half, one: Made, tmp_path: Path
) -> None:
    assert ID in run("feature-sets", "list").stdout
    listed: list[dict[str, Any]] = json.loads(run("feature-sets", "list", "--json").stdout)
    assert [(info["id"], info["rows"]) for info in listed] == [(ID, 8)]
    shown = run("feature-sets", "show", ID).stdout
    assert "8 of 10 images" in shown
    assert "item 3 failed: torn" in shown
    assert json.loads(run("feature-sets", "show", ID, "--json").stdout)["kept"] == one.manifest.kept
    out = tmp_path / "out"
    done = run("feature-sets", "download", ID, "-o", out, "--tap", "fc7", "--format", "safetensors")
    assert done.exit_code == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "errors.csv", "fc7.safetensors", "items.csv", "items.jsonl", "manifest.json",
    ]  # fmt: skip
    wrong = run("feature-sets", "download", ID, "-o", out, "--tap", "fc8")
    assert (wrong.exit_code, "fc7, conv5:pre" in wrong.stderr) == (2, True)
    unknown = run("feature-sets", "show", "features-9")
    assert unknown.exit_code == 1
    assert "`offshelf feature-sets list` shows those that there are" in unknown.stderr

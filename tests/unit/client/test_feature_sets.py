"""Feature sets of a real API, downloaded: resumed, mapped, checked, and not twice."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from offshelf.api.app import create_app
from offshelf.exports.table import table_name
from offshelf.settings import Settings
from offshelf.store import layout
from offshelf_client import (
    AsyncClient,
    Client,
    FeatureSet,
    FeatureSetInfo,
    JobConflictError,
    Retry,
    UnexpectedAnswer,
    UnknownNameError,
)
from tests.unit.api.conftest import Ports
from tests.unit.client.fake_service import FakeService, job_body
from tests.unit.exports.making import Made, made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID = "features-1"


@dataclass
class Line:
    """Passes requests to an API. Bodies break after `cut` bytes, so often as `breaks` says."""

    api: TestClient
    cut: int = 1 << 30
    breaks: int = 0
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.api.request(
            request.method,
            str(request.url.copy_with(scheme="http", host="testserver", port=None)),
            headers=request.headers.raw,  # type: ignore[arg-type]  # httpx's own
            content=request.content,
        )
        broken = self.breaks > 0 and len(answer.content) > self.cut
        self.breaks -= broken
        body = Broken(answer.content[: self.cut]) if broken else Whole(answer.content)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=body)

    def files(self) -> list[tuple[str, str | None]]:
        """The files asked for, with their ranges."""
        return [
            (request.url.path.rpartition("/")[2], request.headers.get("range"))
            for request in self.requests
            if "/files/" in request.url.path
        ]


class Whole(httpx.SyncByteStream):
    """A body."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), 50):
            yield self._data[start : start + 50]


class Broken(Whole):
    """A body whose line breaks in the end."""

    def __iter__(self) -> Iterator[bytes]:
        yield from super().__iter__()
        raise httpx.ReadError("the line broke")


@pytest.fixture
def one() -> Made:
    return made(Ports().store)


@pytest.fixture
def line(one: Made, tmp_path: Path) -> Line:
    ports = Ports(store=one.store)  # type: ignore[arg-type]  # the store that Ports made
    return Line(TestClient(create_app(ports.services(), Settings(data_dir=tmp_path / "server"))))


@pytest.fixture
def client(line: Line) -> Iterator[Client]:
    retry = Retry(attempts=3, sleep=lambda _: None)
    with Client("http://api", retry=retry, transport=httpx.MockTransport(line)) as client:
        yield client


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "offshelf" / "feature-sets" / ID


def test_a_feature_set_says_what_it_is(client: Client, one: Made) -> None:
    found = client.feature_sets.get(ID)
    assert isinstance(found, FeatureSet)
    assert found.kept == tuple(one.manifest.kept)
    assert {number: error.message for number, error in found.errors.items()} == {
        3: "torn",
        8: "torn",
    }
    assert (found.info.rows, found.info.failed, found.total) == (8, 2, 10)
    assert found.info.taps["conv5:pre"].row_shape == (2, 3, 3)
    assert found.info.versions == {"offshelf": "0"}
    listed = client.feature_sets.list()
    assert listed == [found.info]
    assert isinstance(listed[0], FeatureSetInfo)


def test_rows_are_mapped_and_come_once(client: Client, one: Made, line: Line, cache: Path) -> None:
    found = client.feature_sets.get(ID)
    for _ in range(2):
        for tap, rows in one.rows.items():
            array = found.numpy(tap)
            assert isinstance(array, np.memmap)
            np.testing.assert_array_equal(array, rows)
    sent = [request for request in line.requests if "/files/" in request.url.path]
    assert ["if-none-match" in request.headers for request in sent] == [False, False, True, True]
    noted = json.loads((cache / "manifest.json").read_text())
    assert noted["fingerprints"] == one.manifest.fingerprints
    assert (noted["rows"], noted["failed"], noted["versions"]) == (8, 2, {"offshelf": "0"})


def test_labels_and_paths_are_those_of_the_rows(client: Client, one: Made) -> None:
    found = client.feature_sets.get(ID)
    items = [one.dataset.items[n] for n in one.manifest.kept]
    assert found.labels() == [item.label for item in items]
    assert found.paths() == [item.path for item in items]
    assert [item.index for item in found.items() if item.error] == [3, 8]


def test_a_tap_has_to_be_named_where_there_are_several(client: Client) -> None:
    found = client.feature_sets.get(ID)
    with pytest.raises(ValueError, match="name one of fc7, conv5:pre"):
        found.numpy()
    with pytest.raises(KeyError, match="no tap 'fc8'"):
        found.numpy("fc8")
    with pytest.raises(ValueError, match="npy, safetensors, parquet, arrow"):
        found.download("out", formats="csv")  # type: ignore[arg-type]


def test_a_broken_download_goes_on_where_it_broke(
    client: Client, one: Made, line: Line, cache: Path
) -> None:
    found = client.feature_sets.get(ID)
    line.cut, line.breaks = 100, 3
    np.testing.assert_array_equal(found.numpy("conv5:pre"), one.rows["conv5:pre"])
    ranges = [asked for name, asked in line.files() if name == "conv5:pre.npy"]
    assert ranges == [None, "bytes=100-", "bytes=200-", "bytes=300-"]
    assert not list(cache.glob("*.part*"))


def test_a_later_run_goes_on_with_the_part_of_an_earlier_one(
    client: Client, one: Made, line: Line, cache: Path
) -> None:
    found = client.feature_sets.get(ID)
    key = layout.feature_set_part("default", ID, table_name(one.card.table))
    table, plain = one.store.get(key), line.api.request

    def vanishing(*args: Any, **more: Any) -> Any:
        """Answer, and let the set's table vanish: this run will give up."""
        answer = plain(*args, **more)
        one.store.delete(key)
        return answer

    line.cut, line.breaks = 100, 1
    line.api.request = vanishing  # type: ignore[method-assign]
    with pytest.raises(UnknownNameError):
        found.numpy("fc7")
    line.api.request = plain  # type: ignore[method-assign]
    one.store.put_new(key, table)
    assert (cache / "fc7.npy.part").stat().st_size == 100
    line.requests.clear()
    np.testing.assert_array_equal(found.numpy("fc7"), one.rows["fc7"])
    assert [asked for _, asked in line.files()] == ["bytes=100-"]


def test_a_part_of_other_bytes_is_begun_anew(
    client: Client, one: Made, line: Line, cache: Path
) -> None:
    cache.mkdir(parents=True)
    (cache / "fc7.npy.part").write_bytes(b"of another time")
    (cache / "fc7.npy.part.json").write_text(json.dumps({"etag": '"other"', "total": 500}))
    np.testing.assert_array_equal(client.feature_sets.get(ID).numpy("fc7"), one.rows["fc7"])
    assert [asked for _, asked in line.files()] == ["bytes=15-"]
    assert line.requests[-1].headers["if-range"] == '"other"'


def test_rows_that_are_not_those_of_the_digest_are_refused(
    client: Client, one: Made, line: Line, cache: Path
) -> None:
    found = client.feature_sets.get(ID)
    key = layout.shard(one.dataset.id, one.manifest.fingerprints["fc7"], 1)
    torn = bytearray(one.store.get(key))
    torn[-1] ^= 1
    one.store.delete(key)
    one.store.put_new(key, bytes(torn))
    with pytest.raises(UnexpectedAnswer, match="not what the service has"):
        found.numpy("fc7")
    assert not (cache / "fc7.npy").exists()


def test_a_file_that_was_cut_short_comes_again(client: Client, one: Made, cache: Path) -> None:
    found = client.feature_sets.get(ID)
    found.numpy("fc7")
    whole = (cache / "fc7.npy").read_bytes()
    (cache / "fc7.npy").write_bytes(whole[:-4])
    np.testing.assert_array_equal(found.numpy("fc7"), one.rows["fc7"])


def test_a_folder_has_all_of_it(client: Client, one: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = client.feature_sets.get(ID)
    files = found.download(out, formats=["npy", "safetensors"])
    assert sorted(file.name for file in files) == [
        "conv5:pre.npy", "conv5:pre.safetensors", "fc7.npy", "fc7.safetensors",
    ]  # fmt: skip
    with (out / "items.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["path"] for row in rows] == [item.path for item in one.dataset.items]
    assert [row["path"] for row in rows if row["row"] == ""] == ["c0/0003.jpg", "c2/0008.jpg"]
    np.testing.assert_array_equal(
        np.load(out / "fc7.npy", mmap_mode="r")[int(rows[4]["row"])], one.rows["fc7"][3]
    )
    with (out / "errors.csv").open() as lines:
        errors = list(csv.reader(lines))
    assert errors[1:] == [
        ["c0/0003.jpg", "c0", "invalid_image", "torn"],
        ["c2/0008.jpg", "c2", "invalid_image", "torn"],
    ]
    noted = json.loads((out / "manifest.json").read_text())
    assert [error["index"] for error in noted["errors"]] == [3, 8]
    assert set(noted["files"]) == {*(file.name for file in files), "items.jsonl"}


def test_a_set_without_a_good_row(tmp_path: Path) -> None:
    one = made(Ports().store, bad=range(10))
    app = create_app(Ports(store=one.store).services(), Settings(data_dir=tmp_path))  # type: ignore[arg-type]
    with Client("http://api", transport=httpx.MockTransport(Line(TestClient(app)))) as client:
        found = client.feature_sets.get(ID)
        assert found.numpy("fc7").shape == (0, 0)
        assert found.labels() == []
        assert len(found.errors) == 10


def test_tensors_share_the_file_and_leave_it_alone(client: Client, one: Made, cache: Path) -> None:
    pytest.importorskip("torch")
    found = client.feature_sets.get(ID).torch("fc7")
    np.testing.assert_array_equal(found.numpy(), one.rows["fc7"])
    found[0] = 0
    np.testing.assert_array_equal(np.load(cache / "fc7.npy"), one.rows["fc7"])


def test_arrow_tables(client: Client, one: Made) -> None:
    pytest.importorskip("pyarrow")
    table = client.feature_sets.get(ID).arrow("fc7")
    assert table["path"].to_pylist() == client.feature_sets.get(ID).paths()


async def test_the_asynchronous_client_does_the_same(line: Line, one: Made) -> None:
    transport = httpx.ASGITransport(line.api.app)
    async with AsyncClient("http://api", transport=transport) as client:
        found = await client.feature_sets.get(ID)
        np.testing.assert_array_equal(await found.numpy("fc7"), one.rows["fc7"])
        assert len(await found.labels()) == 8


def test_a_job_gives_its_feature_set(line: Line) -> None:
    told = line.api.get(f"/v1/feature-sets/{ID}").json()
    fake = FakeService(
        routes={
            ("GET", "/v1/jobs/j1"): lambda _: httpx.Response(
                200, json=job_body(state="succeeded", result={"feature_set": "f1"})
            ),
            ("GET", "/v1/jobs/j2"): lambda _: httpx.Response(
                200, json=job_body("j2", state="succeeded", result={"head": "h1"})
            ),
            ("GET", "/v1/feature-sets/f1"): lambda _: httpx.Response(200, json=told),
        }
    )
    with Client("http://api", transport=fake.transport) as other:
        assert other.jobs.get("j1").feature_set().id == ID
        with pytest.raises(JobConflictError, match="makes no feature set"):
            other.jobs.get("j2").feature_set()

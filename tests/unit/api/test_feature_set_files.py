"""Downloads of feature sets: whole, in ranges, again, and what is wrong with them."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from offshelf.api.exporting import Exporter
from offshelf.exports.columns import ColumnsExport
from offshelf.store import layout
from tests.unit.exports.making import Made, made

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from fastapi import FastAPI

    from tests.unit.api.conftest import Ports

FILES = "/v1/feature-sets/features-1/files"


@pytest.fixture
def one(ports: Ports) -> Made:
    return made(ports.store)


def npy_of(one: Made, tap: str) -> bytes:
    out = io.BytesIO()
    np.save(out, one.rows[tap])
    return out.getvalue()


async def test_an_array_is_downloaded_whole(http: httpx.AsyncClient, one: Made) -> None:
    answer = await http.get(f"{FILES}/conv5:pre.npy")
    assert answer.status_code == 200
    assert answer.content == npy_of(one, "conv5:pre")
    told = answer.headers
    assert told["content-length"] == str(len(answer.content))
    assert (told["accept-ranges"], told["content-type"]) == ("bytes", "application/x-npy")
    assert told["etag"].startswith('"')
    assert told["offshelf-fingerprint"] == one.manifest.fingerprints["conv5:pre"]
    assert told["content-disposition"] == 'attachment; filename="conv5_pre.npy"'


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, 400), length=st.integers(1, 400))
async def test_any_range_is_the_slice_of_the_whole(
    http: httpx.AsyncClient, one: Made, first: int, length: int
) -> None:
    whole = npy_of(one, "fc7")
    asked = {"Range": f"bytes={first}-{first + length - 1}"}
    answer = await http.get(f"{FILES}/fc7.npy", headers=asked)
    if first >= len(whole):
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(whole)}"
        assert answer.json()["code"] == "range_not_satisfiable"
        return
    assert answer.status_code == 206
    assert answer.content == whole[first : first + length]
    last = min(first + length, len(whole)) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=-99999", 0, None),
        ("BYTES=0-0", 0, 1),
    ],
)
async def test_open_ranges(
    http: httpx.AsyncClient, one: Made, asked: str, start: int, stop: int | None
) -> None:
    answer = await http.get(f"{FILES}/fc7.npy", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == npy_of(one, "fc7")[start:stop]


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=0-1,4-5", "items=0-1", "bytes=-", "bytes=a-b"]
)
async def test_what_is_no_single_range_is_answered_with_the_whole(
    http: httpx.AsyncClient, one: Made, asked: str
) -> None:
    answer = await http.get(f"{FILES}/fc7.npy", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, npy_of(one, "fc7"))


async def test_a_suffix_of_nothing_cannot_be_had(http: httpx.AsyncClient, one: Made) -> None:
    answer = await http.get(f"{FILES}/fc7.npy", headers={"Range": "bytes=-0"})
    assert answer.status_code == 416


async def test_if_range_takes_the_very_bytes_alone(http: httpx.AsyncClient, one: Made) -> None:
    etag = (await http.head(f"{FILES}/fc7.npy")).headers["etag"]
    part = {"Range": "bytes=3-9"}
    same = await http.get(f"{FILES}/fc7.npy", headers={**part, "If-Range": etag})
    assert (same.status_code, same.content) == (206, npy_of(one, "fc7")[3:10])
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        whole = await http.get(f"{FILES}/fc7.npy", headers={**part, "If-Range": other})
        assert (whole.status_code, whole.content) == (200, npy_of(one, "fc7"))


async def test_what_is_known_is_not_sent_again(http: httpx.AsyncClient, one: Made) -> None:
    etag = (await http.head(f"{FILES}/fc7.npy")).headers["etag"]
    for known in (etag, f'"a", W/{etag}', "*"):
        answer = await http.get(f"{FILES}/fc7.npy", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    again = await http.get(f"{FILES}/fc7.npy", headers={"If-None-Match": '"other"'})
    assert again.status_code == 200


async def test_head_has_the_headers_of_the_whole(http: httpx.AsyncClient, one: Made) -> None:
    for name in ("fc7.npy", "fc7.safetensors", "items.jsonl", "fc7.parquet"):
        whole = await http.get(f"{FILES}/{name}")
        head = await http.head(f"{FILES}/{name}", headers={"Range": "bytes=0-1"})
        assert (head.status_code, head.content) == (200, b"")
        for field in ("content-length", "etag", "accept-ranges", "content-type"):
            assert head.headers[field] == whole.headers[field]


@pytest.mark.parametrize("name", ["fc8.npy", "fc7.csv", "fc7", "npy", ".npy", "items.json"])
async def test_a_file_that_there_is_not_is_told_with_those_that_there_are(
    http: httpx.AsyncClient, one: Made, name: str
) -> None:
    answer = await http.get(f"{FILES}/{name}")
    assert answer.status_code == 404
    assert "fc7, conv5:pre" in answer.json()["detail"]
    assert "npy, safetensors, parquet, arrow" in answer.json()["detail"]


async def test_a_set_that_there_is_not(http: httpx.AsyncClient) -> None:
    for path in ("features-9/files/fc7.npy", "features-9/items", "a%2Fb/items"):
        assert (await http.get(f"/v1/feature-sets/{path}")).status_code == 404


async def test_rows_that_are_gone_are_an_error_and_no_broken_line(
    http: httpx.AsyncClient, one: Made
) -> None:
    key = layout.shard(one.dataset.id, one.manifest.fingerprints["fc7"], 0)
    one.store.delete(key)
    answer = await http.get(f"{FILES}/fc7.npy")
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")


async def test_items_come_in_pages(http: httpx.AsyncClient, one: Made) -> None:
    found, after = [], None
    while True:
        query = {"limit": 3} | ({"after": after} if after else {})
        page = (await http.get("/v1/feature-sets/features-1/items", params=query)).json()
        found += page["items"]
        after = page["after"]
        if not page["has_more"]:
            break
    lines = (await http.get(f"{FILES}/items.jsonl")).text.splitlines()
    assert [{k: v for k, v in item.items() if v is not None} for item in found] == [
        json.loads(line) for line in lines
    ]
    wrong = await http.get("/v1/feature-sets/features-1/items?after=x")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_parameter")


async def test_columns_are_written_once_and_served_in_ranges(
    http: httpx.AsyncClient, one: Made
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    answers = await asyncio.gather(*(http.get(f"{FILES}/fc7.parquet") for _ in range(4)))
    whole = answers[0].content
    assert {answer.content for answer in answers} == {whole}
    assert pq.read_table(io.BytesIO(whole)).num_rows == 8
    part = await http.get(f"{FILES}/fc7.parquet", headers={"Range": "bytes=-8"})
    assert (part.status_code, part.content) == (206, whole[-8:])
    exports = [
        key for key in one.store.keys("owners/default/feature-set-parts") if "parquet" in key
    ]
    assert len(exports) == 1


async def test_who_asks_for_a_long_export_is_told_to_come_again(
    app: FastAPI, http: httpx.AsyncClient, one: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    go, plain = threading.Event(), ColumnsExport.write
    app.state.exporter = exporter = Exporter(None, wait_s=0.01)

    def held(self: ColumnsExport, file: Path, told: object) -> None:
        assert go.wait(30)
        plain(self, file, told)  # type: ignore[arg-type]

    monkeypatch.setattr(ColumnsExport, "write", held)
    answer = await http.get(f"{FILES}/fc7.arrow")
    assert (answer.status_code, answer.json()["code"]) == (503, "export_pending")
    assert "0 of 8 rows" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    go.set()
    app.state.exporter = Exporter(None, wait_s=30)
    exporter._thread.shutdown(wait=True)
    assert (await http.get(f"{FILES}/fc7.arrow")).status_code == 200


async def test_an_export_that_fails_is_tried_again(
    http: httpx.AsyncClient, one: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    key = layout.shard(one.dataset.id, one.manifest.fingerprints["fc7"], 1)
    data = one.store.get(key)
    one.store.delete(key)
    assert (await http.get(f"{FILES}/fc7.parquet")).status_code == 503
    one.store.put_new(key, data)
    assert (await http.get(f"{FILES}/fc7.parquet")).status_code == 200

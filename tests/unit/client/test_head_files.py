"""Heads of a real API as files: downloaded in pieces, gone on with, and never half a file."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi.testclient import TestClient

from offshelf.api.app import create_app
from offshelf.settings import Settings
from offshelf.store import layout
from offshelf_client import Client, Progress, Retry, UnexpectedAnswer
from tests.unit.api.conftest import Ports
from tests.unit.client.test_feature_sets import Line
from tests.unit.heads.cards import keep

if TYPE_CHECKING:
    from pathlib import Path

RETRY = Retry(attempts=3, sleep=lambda _: None)


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def line(ports: Ports, tmp_path: Path) -> Line:
    keep(ports.store, "head-1", "flowers")
    return Line(TestClient(create_app(ports.services(), Settings(data_dir=tmp_path / "server"))))


@pytest.mark.parametrize("kind", ["safetensors", "python", "onnx"])
def test_a_head_whose_download_breaks_goes_on_where_it_broke(
    kind: str, line: Line, tmp_path: Path
) -> None:
    told: list[Progress] = []
    out = tmp_path / "out"
    out.mkdir()
    with Client("http://api", retry=RETRY, transport=httpx.MockTransport(line)) as client:
        head = client.heads.get("flowers:1")
        line.cut, line.breaks = 100, 2
        path = head.export(kind, out / "head", progress=told.append)  # type: ignore[arg-type]
    assert [*out.iterdir()] == [path]
    asked = [r for r in line.requests if r.url.path.endswith("/export")]
    assert [r.headers.get("range") for r in asked] == [None, "bytes=100-", "bytes=200-"]
    whole = line.api.get("/v1/heads/flowers/export", params={"format": kind})
    assert path.read_bytes() == whole.content
    assert (told[-1].done, told[-1].total) == (len(whole.content), len(whole.content))


def test_a_damaged_file_never_gets_the_name(line: Line, ports: Ports, tmp_path: Path) -> None:
    """The bytes in the store are others than those whose sha256 was recorded."""
    record = {
        "format": "onnx-full", "size": 4, "sha256": hashlib.sha256(b"good").hexdigest(),
        "created_s": 1.0, "deviation": 0.0, "versions": {},
    }  # fmt: skip
    ports.store.put_new(
        layout.head_export("default", "head-1", "onnx-full"), json.dumps(record).encode()
    )
    ports.store.put_new(
        layout.head_export_file("default", "head-1", str(record["sha256"])), b"evil"
    )
    out = tmp_path / "out"
    out.mkdir()
    (out / "head.onnx").write_bytes(b"before")

    def made_at_once(request: httpx.Request) -> httpx.Response:
        answer = line(request)
        if request.url.path.startswith("/v1/jobs") or request.method == "POST":
            answer.read()
            job = answer.json() | {"state": "succeeded"}
            return httpx.Response(answer.status_code, json=job)
        return answer

    with Client("http://api", retry=RETRY, transport=httpx.MockTransport(made_at_once)) as client:
        head = client.heads.get("flowers")
        with pytest.raises(UnexpectedAnswer, match="arrived damaged"):
            head.export("onnx-full", out / "head.onnx", timeout=10)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"head.onnx": b"before"}

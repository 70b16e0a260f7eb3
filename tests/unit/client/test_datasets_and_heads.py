"""Uploads of folders and archives, and predictions."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import offshelf_client as sdk
from offshelf.schemas import base, datasets, heads
from tests.unit.client.fake_service import (
    WEIGHTS,
    FakeService,
    head_card,
    job_body,
    problem,
    read_form,
    transform_card,
)

DATASET = datasets.DatasetBody(
    id="d1", name="flowers", created_s=1.0, classes=["a", "b"], counts={"a": 1, "b": 1}, total=2,
    skipped=[],
).model_dump(mode="json")  # fmt: skip


def created(_: httpx.Request) -> httpx.Response:
    return httpx.Response(201, json=DATASET)


def folder(tmp_path: Path) -> Path:
    root = tmp_path / "flowers"
    for name in ("b/2.jpg", "a/1.png", "a/notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode() * 1000)
    return root


def test_folder_is_packed_by_class_without_its_owner(tmp_path: Path) -> None:
    fake = FakeService(routes={("POST", "/v1/datasets"): created})
    told: list[sdk.Progress] = []
    with sdk.Client(transport=fake.transport) as client:
        dataset = client.datasets.upload(folder(tmp_path), layout="folder", progress=told.append)
    assert dataset.classes == ("a", "b")
    files, fields = read_form(fake.requests[0])
    ((field, name, content),) = files
    assert (field, name) == ("archive", "flowers.tar")
    assert fields == {"name": ["flowers"], "layout": ["folder"]}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == ["a/1.png", "b/2.jpg"]
        assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}
        packed = tar.extractfile("b/2.jpg")
        assert packed is not None
        assert packed.read() == b"b/2.jpg" * 1000
    assert (told[-1].done, told[-1].unit) == (len(content), "bytes")
    assert told[-1].total == len(content)


def test_by_a_protocol_all_files_are_packed_but_hidden_ones(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for name in (".DS_Store", ".git/x.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "link.jpg").symlink_to(root / "a" / "1.png")
    fake = FakeService(routes={("POST", "/v1/datasets"): created})
    with sdk.Client(transport=fake.transport) as client:
        client.datasets.upload(root, protocol="voc2007")
    ((_, _, content),), fields = read_form(fake.requests[0])
    assert fields == {"name": ["flowers"], "protocol": ["voc2007"]}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == ["a/1.png", "a/notes.txt", "b/2.jpg", "link.jpg"]
        assert all(member.isreg() for member in members)


def test_a_data_set_tells_its_protocol_and_a_head_its_figures() -> None:
    protocol = datasets.DatasetProtocol(
        name="voc2007", multi_label=True, metrics=["map_11pt"], regions=["person"], counts={"a": 1},
        splits=[datasets.SplitCounts(name="train/test", train=3, val=2, test=4)],
    )  # fmt: skip
    row = heads.PublishedRow(method="m", value=77.7, metric="map_11pt", source="s")
    report = heads.ProtocolReport(
        protocol="voc2007", split="train/test", number=1, trained=5, tested=4, unscored=1,
        figures={"map_11pt": 0.5}, table=[row],
    )  # fmt: skip
    precision = heads.ClassPrecision(
        positives=2, negatives=1, left_out=1, ap_11pt=0.5, ap_all_point=None
    )
    metrics = heads.Metrics(images=4, map_11pt=0.5, precision={"a": precision})
    card = head_card() | {
        "multi_label": True, "regions": ["person"], "protocol": report.model_dump(mode="json"),
        "test": metrics.model_dump(mode="json"),
    }  # fmt: skip
    fake = FakeService(
        routes={
            ("GET", "/v1/datasets/d1"): lambda _: httpx.Response(
                200, json=DATASET | {"protocol": protocol.model_dump(mode="json")}
            ),
            ("GET", "/v1/heads/h1"): lambda _: httpx.Response(200, json=card),
            ("POST", "/v1/heads"): lambda _: httpx.Response(202, json=job_body()),
        }
    )
    with sdk.Client(transport=fake.transport) as client:
        dataset, head = client.datasets.get("d1"), client.heads.get("h1")
        client.heads.train(dataset, split=sdk.ProtocolSplit(2))
    assert json.loads(fake.requests[-1].content)["split"] == {"number": 2}
    assert dataset.protocol == sdk.DatasetProtocol(
        "voc2007", True, ("map_11pt",), ("person",), (sdk.SplitCounts("train/test", 3, 2, 4),)
    )
    assert head.report.protocol is not None
    assert head.report.protocol.table == (sdk.PublishedRow("m", 77.7, "map_11pt", "s"),)
    assert head.report.protocol.figures == {"map_11pt": 0.5}
    assert head.report.test is not None
    assert head.report.test.precision == {"a": sdk.ClassPrecision(2, 1, 1, 0.5, None)}
    assert (head.info.multi_label, head.info.regions) == (True, ("person",))


async def test_async_upload_of_an_archive_sends_it_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "flowers.tar.gz"
    path.write_bytes(b"\x1f\x8b" + bytes(100_000))
    fake = FakeService(routes={("POST", "/v1/datasets"): created})
    async with sdk.AsyncClient(transport=fake.transport) as client:
        await client.datasets.upload(path, name="mine")
    ((_, name, content),), fields = read_form(fake.requests[0])
    assert (name, content, fields) == ("flowers.tar.gz", path.read_bytes(), {"name": ["mine"]})


def test_the_answer_to_a_large_upload_may_take_longer(tmp_path: Path) -> None:
    path = tmp_path / "flowers.tar"
    path.write_bytes(bytes(40_000_000))
    waits: list[dict[str, float]] = []

    def told(request: httpx.Request) -> httpx.Response:
        waits.append(request.extensions["timeout"])
        return created(request)

    fake = FakeService(routes={("POST", "/v1/datasets"): told})
    with sdk.Client(transport=fake.transport, timeout=sdk.Timeout(read=7)) as client:
        client.datasets.upload(path)
    assert waits[0]["read"] == pytest.approx(17.0)
    assert waits[0]["connect"] == sdk.Timeout().connect


def test_upload_is_sent_again_from_its_start(tmp_path: Path) -> None:
    retry = sdk.Retry(sleep=lambda _: None)
    away = problem(503, "dependency_unavailable", retryable=True)
    fake = FakeService([away], {("POST", "/v1/datasets"): created})
    with sdk.Client(transport=fake.transport, retry=retry) as client:
        client.datasets.upload(folder(tmp_path))
    contents = [read_form(request)[0][0][2] for request in fake.requests]
    assert len(contents) == 2
    assert contents[0] == contents[1]


def test_folder_without_images_and_missing_folder_are_told(tmp_path: Path) -> None:
    with sdk.Client(transport=FakeService().transport) as client:
        with pytest.raises(sdk.UnreadableImage, match="no images"):
            client.datasets.upload(tmp_path)
        with pytest.raises(sdk.UnreadableImage, match="cannot read"):
            client.datasets.upload(tmp_path / "gone")


def predictions(request: httpx.Request) -> httpx.Response:
    """Label by the first byte; what starts with `x` is no image."""
    files, _ = read_form(request)
    found: list[heads.Prediction] = []
    for index, (_, name, data) in enumerate(files):
        if data[:1] == b"x":
            error = base.ErrorBody(code="invalid_image", message="not an image")
            found.append(heads.Prediction(index=index, name=name, status="error", error=error))
        else:
            scores = {"a": float(data[0]), "b": 98.5}
            label = max(scores, key=lambda k: scores[k])
            ok: dict[str, Any] = {"index": index, "name": name, "status": "ok"}
            found.append(heads.Prediction(**ok, label=label, scores=scores))
    if all(p.status == "error" for p in found):
        return problem(422, "invalid_image", items=[
            p.model_dump(mode="json", include={"index", "name", "status", "error"}) for p in found
        ])  # fmt: skip
    answer = heads.PredictAnswer(
        request_id="r1", head="h1", fingerprint="f", backbone="alexnet",
        weights=base.WeightsBody(**WEIGHTS), predictions=found,
    )  # fmt: skip
    return httpx.Response(200, json=answer.model_dump(mode="json"))


def head_service() -> FakeService:
    return FakeService(
        routes={
            ("GET", "/v1/heads/h1"): lambda _: httpx.Response(200, json=head_card()),
            ("POST", "/v1/heads/h1/predict"): predictions,
            ("DELETE", "/v1/heads/h1"): lambda _: httpx.Response(204),
        }
    )


def test_predictions_come_in_order_over_several_requests() -> None:
    with sdk.Client(transport=head_service().transport) as client:
        found = client.heads.get("h1").predict([b"a", b"b", b"c", b"d", b"e"], batch_size=2)
    assert [p.label for p in found] == ["b", "b", "a", "a", "a"]
    assert [p.index for p in found] == [0, 1, 2, 3, 4]
    assert found[2].top(1) == [("a", 99.0)]
    assert found[0].top() == [("b", 98.5), ("a", 97.0)]


def test_failed_images_are_listed_or_left_out() -> None:
    images: list[Any] = [b"a", b"x", b"x", b"x", Path("gone.png"), b"c"]
    with sdk.Client(transport=head_service().transport) as client:
        head = client.heads.get("h1")
        found = head.predict(images, on_error="skip", batch_size=2)
        with pytest.raises(sdk.ImagesFailed) as caught:
            head.predict(images, batch_size=2)
    assert [p.index for p in found] == [0, 5]
    assert [item.index for item in caught.value.items] == [1, 2, 3, 4]


def test_prediction_of_arrays_and_deletion() -> None:
    fake = head_service()
    with sdk.Client(transport=fake.transport) as client:
        head = client.heads.get("h1")
        assert len(head.predict(np.zeros((2, 4, 4, 3), np.uint8))) == 2
        head.delete()
    assert fake.requests[-1].method == "DELETE"


async def test_transforms_are_fitted_and_found_again() -> None:
    fitted = job_body(state="succeeded", result={"transform": "w1", "step": "whiten:w1"})
    page = {"items": [transform_card()], "has_more": False}
    fake = FakeService(
        routes={
            ("POST", "/v1/transforms"): lambda _: httpx.Response(202, json=fitted),
            ("GET", "/v1/transforms/w1"): lambda _: httpx.Response(200, json=transform_card()),
            ("GET", "/v1/transforms"): lambda _: httpx.Response(200, json=page),
            ("GET", "/v1/transforms/w2"): lambda _: problem(404, "unknown_name"),
            ("DELETE", "/v1/transforms/w1"): lambda _: httpx.Response(204),
        }
    )
    async with sdk.AsyncClient(transport=fake.transport) as client:
        job = await client.transforms.fit("f1", 3, tap="fc7", epsilon=0.1, idempotency_key="k")
        assert job.result["step"] == "whiten:w1"
        found = await client.transforms.get(job.result["transform"])
        assert (found.dimensions, found.spec["normalisation"]) == (3, "l2")
        assert await client.transforms.list() == [found]
        await client.transforms.delete("w1")
        with pytest.raises(sdk.UnknownNameError):
            await client.transforms.get("w2")
    assert fake.requests[0].headers["idempotency-key"] == "k"
    assert json.loads(fake.requests[0].content) == {
        "feature_set": "f1", "dimensions": 3, "epsilon": 0.1, "name": "", "tap": "fc7",
    }  # fmt: skip

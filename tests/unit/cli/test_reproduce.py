"""`offshelf reproduce` and the uploads of data sets, against a service in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import offshelf_client
from offshelf.datasets.protocol_import import id_of_copy, summary
from offshelf.schemas import base, datasets, heads
from tests.unit.cli.test_cli import answer, fake, run  # noqa: F401  # a fixture
from tests.unit.client.fake_service import (
    METRICS,
    WEIGHTS,
    FakeService,
    job_body,
    problem,
    read_form,
)
from tests.unit.datasets.protocols import test_caltech101, test_voc
from tests.unit.datasets.protocols.copies import protocol

if TYPE_CHECKING:
    from pathlib import Path

NAME = "caltech101-15"


def report(number: int, value: float) -> heads.ProtocolReport:
    row = heads.PublishedRow(
        method="alexnet fc7, svm", value=100 * value, metric="mean_class_accuracy",
        source="this run",
    )  # fmt: skip
    figures = {"mean_class_accuracy": value, "accuracy": 0.5}
    return heads.ProtocolReport(
        protocol=NAME, split=str(number), number=number, trained=30, tested=4, unscored=0,
        figures=figures, table=[row],
    )  # fmt: skip


def card(number: int, value: float) -> dict[str, Any]:
    return heads.Head(
        id=f"h{number}", owner="default", name="", kind="svm", C=2.0, classes=["ant", "bass"],
        spec={"backbone": "alexnet", "tap": "fc7", "view": "warp"}, fingerprint="f" * 64,
        weights=base.WeightsBody(**WEIGHTS), dataset="ds-1", split={"number": number},
        train=heads.Metrics(**METRICS), test=heads.Metrics(**METRICS), created_s=1.0,
        versions={}, warnings=["one image is broken"], protocol=report(number, value),
    ).model_dump(mode="json")  # fmt: skip


def id_here(data: Path) -> str:
    return id_of_copy(protocol(NAME).read(data), protocol(NAME).locate(data))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return test_caltech101.copy(tmp_path, {"ant": 17, "bass": 17})


@pytest.fixture
def service(fake: FakeService, data: Path) -> FakeService:  # noqa: F811
    """It has not the data set yet; its three heads reach 80, 90 and 70 per cent."""
    body = datasets.DatasetBody(
        id="ds-1", name="data", created_s=1.0, classes=["ant", "bass"], total=34, skipped=[],
        counts={"ant": 17, "bass": 17}, layout=NAME, protocol=summary(protocol(NAME).read(data)),
    ).model_dump(mode="json")  # fmt: skip
    features = job_body("f1", "succeeded", kind="feature_set", result={"feature_set": "x"})

    def train(request: httpx.Request) -> httpx.Response:
        number = json.loads(request.content)["split"]["number"]
        job = job_body(f"j{number}", "succeeded", result={"head": f"h{number}"})
        return httpx.Response(202, json=job)

    fake.routes |= {
        ("GET", f"/v1/datasets/{id_here(data)}"): lambda _: problem(404, "unknown_name"),
        ("POST", "/v1/datasets"): answer(body, 201),
        ("GET", "/v1/datasets/ds-1"): answer(body),
        ("GET", "/v1/datasets"): answer({"items": [body], "has_more": False}),
        ("POST", "/v1/feature-sets"): answer(features, 202),
        ("POST", "/v1/heads"): train,
        **{
            ("GET", f"/v1/heads/h{n}"): answer(card(n, value))
            for n, value in ((1, 0.8), (2, 0.9), (3, 0.7))
        },
    }
    return fake


def bodies(service: FakeService, path: str) -> list[Any]:
    return [json.loads(r.content) for r in service.requests if r.url.path == path]


def test_every_split_is_run_and_our_row_stands_among_the_paper_s(
    service: FakeService, data: Path
) -> None:
    result = run("reproduce", NAME, "--data", data, "--backbone", "alexnet", "--tap", "fc7",
                 "--view", "warp", "-C", "2")  # fmt: skip
    assert result.exit_code == 0, result.output
    uploads = [r for r in service.requests if (r.method, r.url.path) == ("POST", "/v1/datasets")]
    assert [read_form(upload)[1]["protocol"] for upload in uploads] == [[NAME]]
    (features,) = bodies(service, "/v1/feature-sets")
    assert (features["dataset"], features["taps"], features["view"]) == ("ds-1", ["fc7"], "warp")
    asked = bodies(service, "/v1/heads")
    assert [body["split"] for body in asked] == [{"number": n} for n in (1, 2, 3)]
    assert {(body["C"], body["backbone"]) for body in asked} == {(2.0, "alexnet")}
    lines = result.stdout.splitlines()
    assert any(line.split() == ["2", "30", "4", "90.00", "50.00", "h2"] for line in lines)
    # The mean and the deviation of a sample of 80, 90 and 70.
    assert any(
        line.split() == [">", *["alexnet", "fc7,", "svm", "80.00", "+-", "10", "this", "run"]]
        for line in lines
    )
    assert "RANDOM WEIGHTS" in result.stdout
    assert result.stdout.count("warning: one image is broken") == 1


def test_json_has_fractions_and_a_table_in_per_cent(service: FakeService, data: Path) -> None:
    told = json.loads(run("reproduce", NAME, "--data", data, "--splits", "2", "--json").stdout)
    assert told["figures"]["mean_class_accuracy"]["mean"] == pytest.approx(0.85)
    assert told["figures"]["mean_class_accuracy"]["deviation"] == pytest.approx(0.0707107)
    assert [split["head"] for split in told["splits"]] == ["h1", "h2"]
    ours = [row for row in told["table"] if row["source"] == "this run"]
    assert [row["metric"] for row in ours] == ["mean_class_accuracy", "accuracy"]
    one = json.loads(run("reproduce", NAME, "--data", data, "--splits", "1", "--json").stdout)
    assert one["figures"]["accuracy"] == {"mean": 0.5, "deviation": None}


def test_a_data_set_that_is_there_is_not_uploaded_again(service: FakeService, data: Path) -> None:
    there = service.routes["GET", "/v1/datasets/ds-1"]
    service.routes["GET", f"/v1/datasets/{id_here(data)}"] = there
    assert run("reproduce", NAME, "--data", data).exit_code == 0
    assert ("POST", "/v1/datasets") not in [(r.method, r.url.path) for r in service.requests]


@pytest.mark.parametrize("stage", [0, 2])
def test_ctrl_c_cancels_what_is_queued(
    stage: int, service: FakeService, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the extraction (the first wait) and in the second training (the third)."""
    running = {name: answer(job_body(name, "running")) for name in ("f1", "j1", "j2", "j3")}
    service.routes |= {("GET", f"/v1/jobs/{name}"): route for name, route in running.items()}
    service.routes |= {("DELETE", f"/v1/jobs/{name}"): route for name, route in running.items()}
    waits: list[str] = []

    def wait(job: offshelf_client.Job, **_: object) -> offshelf_client.Job:
        waits.append(job.id)
        if len(waits) > stage:
            raise KeyboardInterrupt
        return job

    monkeypatch.setattr(offshelf_client.Job, "wait", wait)
    result = run("reproduce", NAME, "--data", data)
    assert result.exit_code != 0
    cancelled = [r.url.path for r in service.requests if r.method == "DELETE"]
    expected = ["f1"] if stage == 0 else ["f1", "j1", "j2", "j3"]
    assert cancelled == [f"/v1/jobs/{name}" for name in expected]
    assert f"cancelled job {expected[-1]}" in result.stderr


def test_a_lost_service_is_told_to_go_on(
    service: FakeService, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object, **__: object) -> None:
        raise offshelf_client.ConnectionFailed("gone")

    monkeypatch.setattr(offshelf_client.Job, "wait", wait)
    result = run("reproduce", NAME, "--data", data)
    assert result.stderr.splitlines() == ["jobs f1 go on without this command", "error: gone"]


def test_without_a_service_the_ways_to_one_are_told(service: FakeService, data: Path) -> None:
    service.replies = [httpx.ConnectError("refused")]
    result = run("reproduce", NAME, "--data", data)
    assert result.exit_code == 1
    assert "`offshelf serve`" in result.stderr
    assert "--local" in result.stderr


def test_a_test_without_published_labels_is_refused_before_any_work(
    service: FakeService, tmp_path: Path
) -> None:
    root = test_voc.copy(tmp_path / "voc", 2012)
    for file in (root / "VOCdevkit/VOC2012/ImageSets/Main").glob("*_test.txt"):
        file.unlink()
    result = run("reproduce", "voc2012", "--data", root)
    assert result.exit_code == 1
    assert "the test of split train/test has no label" in result.stderr
    assert [r.method for r in service.requests] == ["GET"]
    result = run("reproduce", NAME, "--data", tmp_path, "--splits", "9")
    assert (result.exit_code, "has 3 here" in result.stderr) == (2, True)


def test_local_starts_a_service_of_its_own_and_stops_it(
    service: FakeService, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    from offshelf.commands import own_service as module

    seen: list[str] = []

    @contextmanager
    def own(folder: Path, log: Path) -> Any:
        seen.append(f"{folder.parent.name}/{folder.name}")
        yield "http://own"
        seen.append("stopped")

    monkeypatch.setattr(module, "own_service", own)
    monkeypatch.setenv("OFFSHELF_DATA_DIR", str(tmp_path))
    assert run("reproduce", NAME, "--data", data, "--local").exit_code == 0
    assert seen == ["reproduce/service", "stopped"]
    assert {r.url.host for r in service.requests} == {"own"}


def test_data_sets_are_uploaded_listed_and_shown(service: FakeService, data: Path) -> None:
    shown = run("datasets", "upload", data, "--protocol", NAME, "--name", "mine").stdout
    files, fields = read_form(service.requests[0])
    assert fields == {"name": ["mine"], "protocol": [NAME]}
    assert files[0][1].endswith(".tar")
    assert "protocol caltech101-15, whole images" in shown
    assert shown == run("datasets", "show", "ds-1").stdout
    rows = [line.split() for line in run("datasets", "list").stdout.splitlines()]
    assert rows[1] == ["ds-1", "data", "1", NAME, "34", "2", "3"]
    told = json.loads(run("datasets", "list", "--json").stdout)
    assert told[0]["protocol"]["splits"][0] == {"name": "1", "train": 30, "val": 0, "test": 4}


def test_a_head_s_card_has_the_protocol_s_table(service: FakeService) -> None:
    shown = run("heads", "show", "h1").stdout
    assert "caltech101-15, split 1: 30 trained, 4 tested" in shown
    assert "alexnet fc7, svm" in shown
    precise = {"positives": 1, "negatives": 1, "left_out": 0, "ap_11pt": 0.5, "ap_all_point": 0.25}
    many = {"images": 4, "map_11pt": 0.5, "map_all_point": 0.25, "precision": {"ant": precise}}
    metrics = heads.Metrics(**many).model_dump(mode="json")
    body = card(1, 0.8) | {"multi_label": True, "test": metrics, "train": metrics, "protocol": None}
    service.routes["GET", "/v1/heads/h1"] = answer(body)
    lines = [line.split() for line in run("heads", "show", "h1").stdout.splitlines()]
    assert ["test", "4", "50.0", "%", "25.0", "%"] in lines
    service.routes["GET", "/v1/heads"] = answer({"items": [body, card(2, 0.9)], "has_more": False})
    listed = run("heads", "list").stdout
    assert "25.0 % map_all_point" in listed
    assert "90.0 % mean_class_accuracy" in listed


def test_metrics_are_never_mixed_in_a_table() -> None:
    from offshelf.commands.figures import published_table

    rows = [
        heads.PublishedRow(method=m, value=v, metric=metric, source="x")
        for m, v, metric in (
            ("a", 1.0, "map_11pt"),
            ("b", 2.0, "map_all_point"),
            ("c", 3, "map_11pt"),
        )
    ]
    first, second = published_table(rows).split("\n\n")
    assert [line.split()[0] for line in first.splitlines()] == ["map_11pt", "a", "c"]
    assert [line.split()[0] for line in second.splitlines()] == ["map_all_point", "b"]

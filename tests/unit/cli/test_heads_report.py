"""`offshelf heads report` and `offshelf train --low-shot` against a service in memory."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

import offshelf_client
from offshelf.cli import app
from tests.unit.client.fake_service import head_card, job_body, problem
from tests.unit.client.test_datasets_and_heads import DATASET
from tests.unit.client.test_evaluation import of_classes, of_labels, report_body, service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.client.fake_service import FakeService


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    fake = service(report_body(of_classes(), kind="logreg"))
    monkeypatch.setattr(
        offshelf_client, "Client", partial(offshelf_client.Client, transport=fake.transport)
    )
    return fake


def test_the_figures_are_told(fake: FakeService) -> None:
    result = CliRunner().invoke(app, ["heads", "report", "h1"])
    assert result.exit_code == 0, result.output
    report = report_body(of_classes(), kind="logreg")
    assert f"{100 * report['test']['accuracy']:.1f} %" in result.stdout
    assert f"{100 * report['reliability']['ece']:.1f} %" in result.stdout
    assert "calibration error (ECE), uncalibrated" in result.stdout
    assert f"sample {report['test']['hardest'][0]['number']}" in result.stdout
    assert "50.0 +- 10.0" in result.stdout


def test_labels_are_told_by_their_precision(
    fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_body(of_labels(), multi_label=True)
    fake.routes["GET", "/v1/heads/h1/report"] = lambda _: httpx.Response(200, json=report)
    result = CliRunner().invoke(app, ["heads", "report", "h1"])
    assert result.exit_code == 0, result.output
    assert f"{100 * report['test']['map_11pt']:.1f} %" in result.stdout
    assert "lowest AP" in result.stdout


def test_a_head_without_a_test_is_told(fake: FakeService) -> None:
    report = report_body(None)
    fake.routes["GET", "/v1/heads/h1/report"] = lambda _: httpx.Response(200, json=report)
    result = CliRunner().invoke(app, ["heads", "report", "h1"])
    assert (result.exit_code, result.stdout[:16]) == (0, "no test figures:")


def test_the_page_is_written_and_json_is_all_of_it(fake: FakeService, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["heads", "report", "h1", "-o", str(page)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"wrote {page}" in result.stderr
    assert page.read_text(encoding="utf-8") == "<p>h\u00e9ad</p>"
    result = CliRunner().invoke(app, ["heads", "report", "h1", "--json"])
    told = json.loads(result.stdout)
    assert told["confusion"] == report_body(of_classes())["test"]["confusion"]
    assert len(told["classes"]) == 2


def test_an_unknown_head_is_an_error(fake: FakeService) -> None:
    fake.routes["GET", "/v1/heads/h1/report"] = lambda _: problem(404, "unknown_name")
    result = CliRunner().invoke(app, ["heads", "report", "h1"])
    assert result.exit_code == 1


def test_train_asks_for_a_curve(fake: FakeService, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "1.png")
    done = job_body(state="succeeded", total=1, done=1, result={"head": "h1"})
    fake.routes["POST", "/v1/datasets"] = lambda _: httpx.Response(201, json=DATASET)
    fake.routes["POST", "/v1/heads"] = lambda _: httpx.Response(202, json=done)
    fake.routes["GET", "/v1/heads/h1"] = lambda _: httpx.Response(200, json=head_card())
    result = CliRunner().invoke(app, ["train", str(tmp_path), "--low-shot", "1,2"])
    assert result.exit_code == 0, result.output
    (asked,) = [r for r in fake.requests if (r.method, r.url.path) == ("POST", "/v1/heads")]
    assert json.loads(asked.content)["low_shot"]["shots"] == [1, 2]
    result = CliRunner().invoke(app, ["train", str(tmp_path), "--low-shot", "one"])
    assert result.exit_code == 2
    assert "1,2,4,8" in result.output

"""The self-test of a real worker, through the SDK and the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from offshelf.cli import app

if TYPE_CHECKING:
    from offshelf_client import Client
    from tests.serving import Service

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.mark.parametrize("named", [{}, {"backbone": "squeezenet1_0", "weights": "random:0"}])
def test_a_worker_tries_a_backbone_and_passes(client: Client, named: dict[str, str]) -> None:
    found = client.selftest(**named)
    (report,) = found.reports
    assert found.passed
    assert report.passed
    assert report.backbone == named.get("backbone", "embednet")
    status = {check.name: check.status for check in report.checks}
    assert status.pop("cpu_against_device") in ("passed", "skipped")
    assert set(status.values()) == {"passed"}


def test_the_command_shows_each_figure_and_its_tolerance(service: Service) -> None:
    done = CliRunner().invoke(app, ["selftest", "--url", service.url])
    assert done.exit_code == 0, done.output
    assert "embednet" in done.output
    assert "batch_sizes" in done.output
    assert "1.0e-05" in done.output


def test_what_cannot_be_tested_fails_and_says_why(service: Service) -> None:
    done = CliRunner().invoke(app, ["selftest", "alexnett", "--json", "--url", service.url])
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert told["passed"] is False
    assert "did you mean" in told["reports"][0]["error"]["message"]

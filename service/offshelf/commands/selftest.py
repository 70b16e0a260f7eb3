"""`offshelf selftest`: whether the workers of a service give what they should."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.options import AsJson, Url, Weights, connect
from offshelf.commands.output import table

if TYPE_CHECKING:
    from offshelf_client import SelfTestReport


def selftest(
    backbone: Annotated[
        str | None, typer.Argument(help="The backbone to try; the default one when left out.")
    ] = None,
    weights: Weights = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Try a backbone on every worker: features on record, batch sizes, devices, resizers.

    The exit status is 1 when a check failed, or a worker did not answer.
    """
    with connect(url) as client:
        found = client.selftest(backbone, weights)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo("\n\n".join(_shown(report) for report in found.reports))
    if not found.passed:
        raise typer.Exit(1)


def _shown(report: SelfTestReport) -> str:
    where = " ".join(
        [
            *filter(None, (report.backbone, report.weights)),
            *([f"on {report.device}"] if report.device else []),
            f"({report.worker[:8]})",
        ]
    )
    if report.error is not None:
        return f"{where}: {report.error.message}"
    rows = [
        (check.name, check.status, _figure(check.measured), _figure(check.tolerance), check.detail)
        for check in report.checks
    ]
    header = ("check", "status", "measured", "tolerance", "what")
    return f"{where}: {'passed' if report.passed else 'FAILED'}\n{table(header, rows)}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"

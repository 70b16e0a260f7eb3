"""`offshelf heads`: the heads that the service keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.evaluations import as_json_text, summary
from offshelf.commands.heads import card, knowing_heads
from offshelf.commands.options import AsJson, Url, connect
from offshelf.commands.output import percent, table

if TYPE_CHECKING:
    from offshelf_client import HeadInfo

HeadId = Annotated[str, typer.Argument(help="Identifier of the head.")]

heads = typer.Typer(
    help="Look at trained heads, delete them.", no_args_is_help=True, rich_markup_mode=None
)


@heads.command("list")
def list_heads(as_json: AsJson = False, url: Url = None) -> None:
    """List heads, newest first."""
    with connect(url) as client:
        found = sorted(
            (head.info for head in client.heads.list()), key=lambda info: -info.created_s
        )
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in found]))
    else:
        header = ("id", "name", "features", "kind", "test", "created")
        typer.echo(table(header, [_row(info) for info in found]))


@heads.command()
def show(head_id: HeadId, as_json: AsJson = False, url: Url = None) -> None:
    """Say what a head was trained on, and how well it does."""
    with connect(url) as client, knowing_heads():
        head = client.heads.get(head_id)
    typer.echo(json.dumps(asdict(head.info)) if as_json else card(head))


@heads.command()
def report(
    head_id: HeadId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the report as an HTML page to this file."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Say how a head did on its test; or write all of it as a page, with plots and pictures."""
    with connect(url) as client, knowing_heads():
        head = client.heads.get(head_id)
        evaluation = head.evaluation()
        if output is not None:
            head.report_html(output)
    if as_json:
        typer.echo(as_json_text(evaluation))
    elif output is None:
        typer.echo(summary(evaluation))
    if output is not None:
        typer.echo(f"wrote {output}", err=True)


@heads.command()
def delete(head_id: HeadId, url: Url = None) -> None:
    """Remove a head; its dataset and features stay."""
    with connect(url) as client, knowing_heads():
        client.heads.delete(head_id)
    typer.echo(f"deleted head {head_id}")


def _figure(info: HeadInfo) -> str:
    """What counts of the test: a protocol's first figure, mean AP or accuracy."""
    if info.protocol:
        metric, value = next(iter(info.protocol.figures.items()))
        return f"{percent(value)} {metric}"
    if info.test is None:
        return "-"
    if info.multi_label:
        return f"{percent(info.test.map_all_point)} map_all_point"
    return f"{percent(info.test.accuracy)} accuracy"


def _row(info: HeadInfo) -> tuple[str, ...]:
    created = datetime.fromtimestamp(info.created_s, UTC)
    return (
        info.id,
        info.name or "-",
        f"{info.spec.get('backbone')}/{info.spec.get('tap')}",
        info.kind,
        _figure(info),
        f"{created:%Y-%m-%d %H:%M} UTC",
    )

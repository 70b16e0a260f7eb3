"""`offshelf heads`: the heads that the service keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from offshelf.commands.evaluations import as_json_text, summary
from offshelf.commands.heads import card, knowing_heads
from offshelf.commands.learning import Kind
from offshelf.commands.options import AsJson, ShowProgress, Url, connect, progress_option
from offshelf.commands.output import percent, table

if TYPE_CHECKING:
    from offshelf_client import HeadComparison, HeadInfo

SHORT: Final = 40  # characters of a value in a table


class ExportFormat(StrEnum):
    """What a head can be written as."""

    SAFETENSORS = "safetensors"
    PYTHON = "python"
    ONNX = "onnx"
    ONNX_FULL = "onnx-full"


HeadId = Annotated[
    str,
    typer.Argument(
        help="Identifier of the head, or its name: NAME (the newest), NAME:3, NAME:TAG.",
        metavar="HEAD",
    ),
]
Tag = Annotated[str, typer.Argument(help="A word, for example prod.")]

heads = typer.Typer(
    help="Look at trained heads, compare, tag, export and delete them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@heads.command("list")
def list_heads(
    name: Annotated[str | None, typer.Option(help="Only versions of this name.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only heads of this dataset (id).")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only heads of this kind.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only heads with this tag.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List heads, newest first."""
    with connect(url) as client:
        wanted = client.heads.list(
            name=name, dataset=dataset, kind=kind.value if kind else None, tag=tag
        )
        found = sorted((head.info for head in wanted), key=lambda info: -info.created_s)
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in found]))
    else:
        header = ("id", "name", "tags", "features", "kind", "test", "created")
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


@heads.command()
def name(
    head_id: HeadId,
    new_name: Annotated[str, typer.Argument(help="The name.", metavar="NAME")],
    url: Url = None,
) -> None:
    """Make a head that was trained without a name the next version of one."""
    with connect(url) as client, knowing_heads():
        head = client.heads.get(head_id)
        head.give_name(new_name)
    typer.echo(f"{head.id} is {head.info.ref}")


@heads.command()
def tag(head_id: HeadId, tag: Tag, url: Url = None) -> None:
    """Let a tag stand at a head; it leaves the one of the same name at which it stood."""
    with connect(url) as client, knowing_heads():
        head = client.heads.get(head_id)
        head.tag(tag)
    typer.echo(f"{head.info.name}:{tag} is {head.info.ref}")


@heads.command()
def untag(head_id: HeadId, tag: Tag, url: Url = None) -> None:
    """Take a tag from a head."""
    with connect(url) as client, knowing_heads():
        client.heads.get(head_id).untag(tag)
    typer.echo(f"untagged {head_id}: {tag}")


@heads.command()
def compare(first: HeadId, second: HeadId, as_json: AsJson = False, url: Url = None) -> None:
    """Say what differs between two heads, and which does better."""
    with connect(url) as client, knowing_heads():
        found = client.heads.compare(first, second)
    typer.echo(json.dumps(asdict(found)) if as_json else _compared(found))


@heads.command()
def export(
    head_id: HeadId,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    kind: Annotated[
        ExportFormat, typer.Option("--format", help="What to write; docs/registry.md.")
    ] = ExportFormat.SAFETENSORS,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Write a head to one file, to be used without the service."""
    with connect(url) as client, knowing_heads():
        head = client.heads.get(head_id)
        head.export(kind.value, output, progress=progress_option(progress))
    typer.echo(f"{output}: {head.info.ref} as {kind.value}, {output.stat().st_size:,} bytes")


def _compared(found: HeadComparison) -> str:
    """Figures, then what differs, then whether it is fair."""
    titles = ("", str(found.a), str(found.b))
    figures = [
        (f"{pair.side} {pair.metric}", percent(pair.a), percent(pair.b), _signed(pair.difference))
        for pair in found.figures
    ]
    differing = [
        (f"{side} {one.field}", _short(one.a), _short(one.b))
        for side in ("features", "training", "data")
        for one in getattr(found, side)
    ]
    parts = [table((*titles, "difference"), figures)]
    parts += ["", table(titles, differing)] if differing else ["", "nothing differs"]
    chance = found.significance
    if chance is not None:
        parts += [
            "",
            (
                f"right on {chance.a_only} images only {found.a}, on {chance.b_only} only "
                f"{found.b}, of {chance.samples}: p = {chance.p_value:.3g} (McNemar)"
            ),
        ]
    fair = "fair: the same data and split" if found.fair else "not fair"
    return "\n".join([*parts, "", fair, *(f"- {reason}" for reason in found.reasons)])


def _signed(difference: float | None) -> str:
    return "-" if difference is None else f"{100 * difference:+.2f}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


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
        info.ref if info.version else info.name or "-",
        ", ".join(info.tags) or "-",
        f"{info.spec.get('backbone')}/{info.spec.get('tap')}",
        info.kind,
        _figure(info),
        f"{created:%Y-%m-%d %H:%M} UTC",
    )

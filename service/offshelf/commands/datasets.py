"""`offshelf datasets`: uploads, the protocols there are, and whether a copy is right."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.figures import value_of
from offshelf.commands.options import AsJson, ShowProgress, Url, connect, progress_option
from offshelf.commands.output import table

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Card, Published
    from offshelf.datasets.protocols.verification import Verification
    from offshelf_client import Dataset

datasets = typer.Typer(
    help="Upload data sets, look at them and at the protocols of papers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


Protocol = Annotated[
    str | None,
    typer.Option(help="Read its official layout by this protocol; else the files' names tell it."),
]
Folders = Annotated[
    bool,
    typer.Option("--folders", help="Take folders for classes, whatever lists lie beside them."),
]
Copy = Annotated[
    bool,
    typer.Option("--copy", help="Keep copies of the images; else they are read where they are."),
]
Name = Annotated[str | None, typer.Option(help="A name for people.")]
DatasetId = Annotated[str, typer.Argument(help="Identifier of the dataset.")]


@datasets.command()
def upload(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of the data set, or an archive of it.", exists=True),
    ],
    protocol: Protocol = None,
    folders: Folders = False,
    name: Name = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Upload a data set; the same one again is the same dataset."""
    with connect(url) as client:
        dataset = client.datasets.upload(
            folder,
            name=name,
            protocol=protocol,
            layout="folder" if folders else "auto",
            progress=progress_option(progress),
        )
    typer.echo(json.dumps(asdict(dataset)) if as_json else _shown(dataset))


@datasets.command()
def register(
    source: Annotated[
        str, typer.Argument(help="Folder of the service's machine, or s3://bucket/prefix.")
    ],
    protocol: Protocol = None,
    folders: Folders = False,
    name: Name = None,
    copy: Copy = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Make a data set of images that the service can reach, and is allowed to read."""
    with connect(url) as client:
        job = client.datasets.register(
            source,
            name=name,
            protocol=protocol,
            layout="folder" if folders else "auto",
            copy=copy,
        )
        dataset = job.wait(progress=progress_option(progress)).dataset()
    typer.echo(json.dumps(asdict(dataset)) if as_json else _shown(dataset))


@datasets.command()
def add(
    dataset_id: DatasetId,
    source: Annotated[
        str, typer.Argument(help="Folder with a sub-folder a class, or an archive of it.")
    ],
    registered: Annotated[
        bool, typer.Option("--registered", help="The service reads the source: see `register`.")
    ] = False,
    copy: Copy = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Make the next version of a data set: its images and those of a folder."""
    shown = progress_option(progress)
    with connect(url) as client:
        if registered:
            job = client.datasets.add_registered(dataset_id, source, copy=copy)
            dataset = job.wait(progress=shown).dataset()
        else:
            dataset = client.datasets.add_images(dataset_id, source, progress=shown)
    typer.echo(json.dumps(asdict(dataset)) if as_json else _shown(dataset))


@datasets.command()
def delete(
    dataset_id: DatasetId,
    feature_sets: Annotated[
        bool, typer.Option("--feature-sets", help="Delete its feature sets too.")
    ] = False,
    url: Url = None,
) -> None:
    """Delete a data set; heads that were trained on it stay."""
    with connect(url) as client:
        client.datasets.delete(dataset_id, feature_sets=feature_sets)


@datasets.command("list")
def list_datasets(as_json: AsJson = False, url: Url = None) -> None:
    """List the data sets that the service keeps, newest first."""
    with connect(url) as client:
        found = sorted(client.datasets.list(), key=lambda dataset: -dataset.created_s)
    if as_json:
        typer.echo(json.dumps([asdict(dataset) for dataset in found]))
    else:
        header = ("id", "name", "version", "layout", "samples", "classes", "splits")
        typer.echo(table(header, [_row(dataset) for dataset in found]))


@datasets.command()
def show(
    dataset_id: Annotated[
        str, typer.Argument(help="Identifier, or a name: its newest version, or `name:2`.")
    ],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show a dataset: its classes and counts, its protocol and splits."""
    with connect(url) as client:
        dataset = client.datasets.get(dataset_id)
    typer.echo(json.dumps(asdict(dataset)) if as_json else _shown(dataset))


@datasets.command()
def protocols(
    name: Annotated[str | None, typer.Argument(help="Show all that is known of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the protocols, or say of one how it splits and scores and what papers got."""
    from offshelf.datasets.protocols.interface import PROTOCOLS

    cards = [PROTOCOLS.get(known).card for known in ([name] if name else PROTOCOLS.names())]
    if as_json:
        shown = [card.model_dump() for card in cards]
        typer.echo(json.dumps(shown[0] if name else shown))
    else:
        typer.echo(_full(cards[0]) if name else _summary(cards))


@datasets.command()
def verify(
    protocol: Annotated[str, typer.Argument(help="Name of a protocol.", metavar="PROTOCOL")],
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of the data set.", metavar="DIR", exists=True, file_okay=False),
    ],
    names: Annotated[int, typer.Option(min=1, help="So many names of each kind of fault.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Compare a copy of a data set with the official lists and counts; status 1 if it differs."""
    from offshelf.datasets.protocols.interface import PROTOCOLS
    from offshelf.datasets.protocols.verification import verify as compare

    found = compare(PROTOCOLS.get(protocol), folder)
    typer.echo(found.model_dump_json() if as_json else _report(found, names))
    if not found.right:
        raise typer.Exit(1)


def _row(dataset: Dataset) -> tuple[object, ...]:
    splits = len(dataset.protocol.splits) if dataset.protocol else "-"
    named = (dataset.id, dataset.name, dataset.version, dataset.layout)
    return *named, dataset.total, len(dataset.classes), splits


def _shown(dataset: Dataset) -> str:
    named = f"{dataset.name}, version {dataset.version}, layout {dataset.layout}"
    parts = [f"dataset {dataset.id}, {named}: {dataset.total} samples"]
    if dataset.source:
        parts.append(f"source {dataset.source}, {'copied' if dataset.copied else 'read there'}")
    if dataset.protocol:
        regions = ", ".join(dataset.protocol.regions) or "whole images"
        parts.append(f"protocol {dataset.protocol.name}, {regions}")
    counted = "positives" if dataset.protocol and dataset.protocol.multi_label else "samples"
    parts += ["", table(("class", counted), dataset.counts.items())]
    if dataset.protocol:
        rows = [(s.name, s.train, s.val, s.test) for s in dataset.protocol.splits]
        parts += ["", table(("split", "train", "val", "test"), rows)]
    parts += [f"skipped {file.path} ({file.reason})" for file in dataset.skipped]
    unnamed = dataset.skipped_total - len(dataset.skipped)
    return "\n".join([*parts, *([f"skipped {unnamed} more"] if unnamed > 0 else [])])


def _summary(cards: list[Card]) -> str:
    rows = [(card.name, card.title, card.splits, " ".join(card.metrics)) for card in cards]
    return table(("protocol", "what", "splits", "reports"), rows)


def _full(card: Card) -> str:
    parts = [
        f"{card.name}: {card.title}",
        f"source: {card.source}",
        "layout:",
        *(f"  {line}" for line in card.layout),
        f"procedure: {card.procedure}",
        f"reports: {', '.join(card.metrics)}",
        f"official counts: {_counts(card.counts)}",
        *(f"note: {surprise}" for surprise in card.surprises),
    ]
    if card.published:
        header = ("published", "metric", "per cent", "source")
        parts += ["", table(header, [_published(row) for row in card.published])]
    return "\n".join(parts)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"


def _published(row: Published) -> tuple[str, str, str, str]:
    note = f" ({row.note})" if row.note else ""
    return row.method + note, row.metric, value_of(row), row.source


def _report(found: Verification, names: int) -> str:
    rows = [
        (count.what, count.official, " or ".join(map(str, count.found)), "" if count.right else "!")
        for count in found.counts
    ]
    counted = [table(("count of", "official", "here", ""), rows)] if rows else []
    verdict = "is right" if found.right else "is not right"
    return "\n".join(
        [*counted, *found.sentences(names), f"{found.folder}: {found.protocol} {verdict}"]
    )

"""`offshelf datasets`: the protocols there are, and whether a copy of a data set is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.options import AsJson
from offshelf.commands.output import table

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Card, Published
    from offshelf.datasets.protocols.verification import Verification

datasets = typer.Typer(
    help="Protocols of published data sets.", no_args_is_help=True, rich_markup_mode=None
)


@datasets.callback()
def group() -> None:
    """Protocols of published data sets."""


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
    deviation = "" if row.deviation is None else f" +- {row.deviation:g}"
    note = f" ({row.note})" if row.note else ""
    return row.method + note, row.metric, f"{row.value:.2f}{deviation}", row.source


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

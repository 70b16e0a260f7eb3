"""`offshelf weights list`, `pull`, `verify`: the weights files of this machine."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offshelf.commands.failures import one_line
from offshelf.commands.options import AsJson
from offshelf.commands.output import table
from offshelf.commands.serving import WeightsDir, settings_with

if TYPE_CHECKING:
    from collections.abc import Iterable

    from offshelf.backbones.catalogue import Catalogue
    from offshelf.backbones.interface import Card
    from offshelf.backbones.inventory import Held
    from offshelf.backbones.verification import Verdict
    from offshelf.settings import Settings

weights = typer.Typer(
    help="The weights that this machine has.", no_args_is_help=True, rich_markup_mode=None
)

Names = Annotated[list[str] | None, typer.Argument(help="Backbones.", metavar="[NAME]...")]
Which = Annotated[
    str | None,
    typer.Option("--weights", help="Published weights other than the backbone's own.", metavar="W"),
]

_LICENCE_WIDTH = 34  # characters of a licence in the table; `--json` has all
_HASH_SHOWN = 12


@weights.callback()
def group() -> None:
    """The weights that this machine has."""


@weights.command("list")
def list_weights(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are not here.")
    ] = False,
    weights_dir: WeightsDir = None,
    as_json: AsJson = False,
) -> None:
    """Say which weights are here, where, under which licence, and what hash is on record."""
    settings = settings_with(weights_dir=weights_dir)
    from offshelf.backbones.inventory import inventory

    known = inventory(_catalogue(settings), settings)
    shown = [held for held in known if everything or held.path or held.problem]
    if as_json:
        typer.echo(json.dumps([_plain(held) for held in shown]))
        return
    header = ("backbone", "weights", "source", "MB", "sha256", "licence", "file")
    typer.echo(table(header, [_row(held) for held in shown]))
    for held in shown:
        if held.problem:
            typer.echo(f"bad: {held.problem}", err=True)
    if len(shown) < len(known):
        typer.echo(f"{len(known) - len(shown)} more are not here; --all lists them")


@weights.command()
def pull(
    names: Names = None,
    which: Which = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every backbone that has published weights.")
    ] = False,
    weights_dir: WeightsDir = None,
    as_json: AsJson = False,
) -> None:
    """Download published weights: into the weights folder if there is one, else torch's cache.

    What breaks off goes on where it was when it is run again.
    """
    if bool(names) == everything:
        raise typer.BadParameter("name backbones, or say --all", param_hint="NAME")
    settings = settings_with(weights_dir=weights_dir)
    _show_progress()
    if settings.weights_dir is not None:
        settings.weights_dir.mkdir(parents=True, exist_ok=True)
    catalogue = _catalogue(settings)
    asked = [(name, which) for name in names or []]
    if everything:
        asked = [(card.name, card.weights.name) for card in _published(catalogue, which)]
    rows = [_pulled(name, weights, catalogue, settings, quiet=as_json) for name, weights in asked]
    if as_json:
        typer.echo(json.dumps(rows))
    if any("error" in row for row in rows):
        raise typer.Exit(1)


@weights.command()
def verify(
    names: Names = None,
    recording: Annotated[
        bool, typer.Option("--record", help="Put the hash of sound files on record.")
    ] = False,
    weights_dir: WeightsDir = None,
    as_json: AsJson = False,
) -> None:
    """Hash the files that are here, and read them as the weights of their networks.

    Exits with 1 where one is damaged, a card file is bad, or a backbone that was named has none.
    """
    settings = settings_with(weights_dir=weights_dir)
    verdicts = []
    for verdict in _verdicts(names or [], settings, recording=recording):
        verdicts.append(verdict)
        if not as_json:
            typer.echo(_told(verdict))
    if as_json:
        typer.echo(json.dumps([_plain(verdict) for verdict in verdicts]))
    if not all(verdict.is_good for verdict in verdicts):
        raise typer.Exit(1)


def _catalogue(settings: Settings) -> Catalogue:
    from offshelf.backbones.catalogue import Catalogue

    return Catalogue(settings.weights_dir)


def _published(catalogue: Catalogue, which: str | None) -> list[Card]:
    """The cards of weights that can be downloaded: each backbone's own, or those of one name."""
    from offshelf.backbones.inventory import variants

    cards = [variant for card in catalogue.cards() for variant in variants(card)]
    return [c for c in cards if c.weights.url and (c.weights.name == which if which else c.pinned)]


def _pulled(
    name: str, which: str | None, catalogue: Catalogue, settings: Settings, *, quiet: bool
) -> dict[str, Any]:
    """Bring one file here and say so; what goes wrong is told, and the next one is begun."""
    from offshelf.backbones.inventory import held
    from offshelf.backbones.weights import check, download, locate

    try:
        card = catalogue.get(name)
        card = card.with_weights(which) if which is not None else card
        here = locate(card, settings)
        if here is None and not quiet:
            typer.echo(f"{card.name} {card.weights.name}: {card.weights.licence}")
        place = here or download(card, settings)
        check(card, place, by_name=True)
    except Exception as error:
        message = one_line(error)
        if message is None:
            raise
        typer.echo(f"error: {name}: {message}", err=True)
        return {"backbone": name, "error": message}
    row = {**_plain(held(card, settings)), "state": "present" if here else "downloaded"}
    if not quiet:
        typer.echo(_arrived(row))
    return row


def _arrived(row: dict[str, Any]) -> str:
    record = f"sha256 {row['sha256']}" if row["sha256"] else "no sha256 on record"
    return f"{row['backbone']} {row['weights']}: {row['state']}, {row['file']} ({record})"


def _show_progress() -> None:
    """Lines about downloads on standard error, where no bar is drawn over it."""
    import logging
    import sys

    if not sys.stderr.isatty():
        logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr, force=True)
        logging.getLogger("httpx").setLevel(logging.WARNING)


def _verdicts(names: list[str], settings: Settings, *, recording: bool) -> Iterable[Verdict]:
    """One a file that is here, or one a backbone that was named."""
    from offshelf.backbones.inventory import variants
    from offshelf.backbones.verification import Verdict, verify
    from offshelf.errors import WeightsMissing

    catalogue = _catalogue(settings)
    for name in names or catalogue.names():
        try:
            card = catalogue.get(name)
        except WeightsMissing as error:
            yield Verdict(name, "", "bad card", detail=str(error))
            continue
        found = [verify(card, settings, recording=recording) for card in variants(card)]
        here = [verdict for verdict in found if verdict.status != "missing"]
        yield from here or (found[:1] if names or card.brought else [])
    if not names:
        for name, why in catalogue.bad_cards().items():
            yield Verdict(name, "", "bad card", detail=str(why))


def _told(verdict: Verdict) -> str:
    what = f"{verdict.backbone} {verdict.weights}".rstrip()
    if verdict.detail:
        return f"{verdict.status:12}  {what}: {verdict.detail}"
    return f"{verdict.status:12}  {what}: {verdict.path} (sha256 {verdict.sha256})"


def _row(held: Held) -> tuple[object, ...]:
    size = "-" if held.bytes is None else f"{held.bytes / 1e6:.1f}"
    licence = textwrap.shorten(held.licence, _LICENCE_WIDTH, placeholder=" ...") or "-"
    sha256 = held.sha256[:_HASH_SHOWN] if held.sha256 else "-"
    source = "bad" if held.problem else held.source or "missing"
    return held.backbone, held.weights or "-", source, size, sha256, licence, held.path or "-"


def _plain(row: Held | Verdict) -> dict[str, Any]:
    """Its fields, with the path as text."""
    fields = asdict(replace(row, path=None))
    del fields["path"]
    return fields | {"file": str(row.path) if row.path else None}

"""`offshelf backbones`: what the service can run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.options import AsJson, Url, connect
from offshelf.commands.output import table

if TYPE_CHECKING:
    from offshelf_client import Backbone


def backbones(
    name: Annotated[str | None, typer.Argument(help="Show the taps of this one.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List the backbones of the service, or the taps of one."""
    with connect(url) as client:
        found = [client.backbone(name)] if name else client.backbones()
    if as_json:
        shown = [asdict(backbone) for backbone in found]
        typer.echo(json.dumps(shown[0] if name else shown))
    else:
        typer.echo(_taps(found[0]) if name else _summary(found))


def _summary(found: list[Backbone]) -> str:
    rows = [
        (
            backbone.name + (" (default)" if backbone.default else ""),
            "present" if backbone.has_weights else "missing",
            " ".join(tap.name for tap in backbone.taps),
        )
        for backbone in found
    ]
    return table(("backbone", "weights", "taps"), rows)


def _taps(backbone: Backbone) -> str:
    rows: list[tuple[str, str, object, object]] = [
        (
            tap.name + (" (and :pre)" if tap.pre else ""),
            "x".join(map(str, tap.shape)),
            tap.stride or "-",
            tap.receptive_field or "-",
        )
        for tap in backbone.taps
    ]
    aliases: list[tuple[str, str, object, object]] = [
        (alias, f"= {tap}", "-", "-") for alias, tap in sorted(backbone.aliases.items())
    ]
    return table(("tap", "shape", "stride", "receptive field"), rows + aliases)

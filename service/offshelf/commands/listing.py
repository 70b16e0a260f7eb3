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
    name: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List the backbones of the service, or the taps and the published weights of one."""
    with connect(url) as client:
        found = [client.backbone(name)] if name else client.backbones()
    if as_json:
        shown = [asdict(backbone) for backbone in found]
        typer.echo(json.dumps(shown[0] if name else shown))
    else:
        typer.echo(_details(found[0]) if name else _summary(found))


def _summary(found: list[Backbone]) -> str:
    header = ("backbone", "weights", "top-1 %", "input", "MB", "taps")
    return table(header, [_summary_row(backbone) for backbone in found])


def _summary_row(backbone: Backbone) -> tuple[object, ...]:
    first, last = backbone.taps[0].name, backbone.taps[-1].name
    return (
        backbone.name + (" (default)" if backbone.default else ""),
        "present" if backbone.has_weights else "missing",
        backbone.weights.get("top1") or "-",
        backbone.preprocessing.get("crop", "-"),
        "-" if backbone.nbytes is None else round(backbone.nbytes / 1e6),
        first if first == last else f"{first} ... {last} ({len(backbone.taps)})",
    )


def _details(backbone: Backbone) -> str:
    """The taps; the weights that are published, and under which terms."""
    return "\n\n".join(part for part in (_taps(backbone), *_variants(backbone)) if part)


def _taps(backbone: Backbone) -> str:
    rows: list[tuple[str, str, object, object]] = [
        (
            tap.name + (" (and :pre)" if tap.pre else ""),
            "x".join(map(str, tap.shape)) + (" tokens" if tap.kind == "tokens" else ""),
            tap.stride or "-",
            tap.receptive_field or "-",
        )
        for tap in backbone.taps
    ]
    aliases: list[tuple[str, str, object, object]] = [
        (alias, f"= {tap}", "-", "-") for alias, tap in sorted(backbone.aliases.items())
    ]
    return table(("tap", "shape", "stride", "receptive field"), rows + aliases)


def _variants(backbone: Backbone) -> list[str]:
    rows = [
        (
            variant.name + (" (pinned)" if place == 0 else ""),
            "present" if variant.present else "missing",
            variant.top1 or "-",
            f"{variant.preprocessing['resize']}/{variant.preprocessing['crop']}",
            variant.preprocessing["interpolation"],
        )
        for place, variant in enumerate(backbone.variants)
    ]
    licences = dict.fromkeys(variant.licence for variant in backbone.variants)
    terms = [
        ", ".join(v.name for v in backbone.variants if v.licence == licence) + f": {licence}"
        for licence in licences
    ]
    header = ("weights", "here", "top-1 %", "resize/crop", "interpolation")
    return [table(header, rows), *terms] if rows else []

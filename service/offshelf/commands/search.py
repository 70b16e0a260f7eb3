"""`offshelf search`: the features and the head that do best on held-out training images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offshelf.commands.heads import card, split_option
from offshelf.commands.learning import Kind, with_learning
from offshelf.commands.options import (
    AsJson,
    Backbone,
    Merge,
    ShowProgress,
    Url,
    Weights,
    connect,
    progress_option,
)
from offshelf.commands.output import percent, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf_client import Candidate


@with_learning("vissl")
def search(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder with a sub-folder of images for each class, or an archive of one.",
            exists=True,
        ),
    ],
    tap: Annotated[list[str], typer.Option(help="A tap to try; several times.")],
    pool: Annotated[
        list[str] | None, typer.Option(help="A pooling to try; several times. Else the tap's own.")
    ] = None,
    normalize: Annotated[
        list[str] | None, typer.Option(help="A normalisation to try; several times. Else l2.")
    ] = None,
    view: Annotated[
        list[str] | None, typer.Option(help="A view to try; several times. Else center.")
    ] = None,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="A kind of head to try; several times. Else svm.")
    ] = None,
    train_per_class: Annotated[
        int | None,
        typer.Option(min=1, help="So many random images a class train, the others test."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that choice.")] = 0,
    backbone: Backbone = None,
    merge: Merge = "mean",
    weights: Weights = None,
    name: Annotated[str, typer.Option(help="The best head becomes a version of it.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the other heads too.")] = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
    *,
    learning: dict[str, Any],
) -> None:
    """Try every combination of features and heads; keep what does best on held-out images.

    The training images alone choose, with C; how the best one does on the test images is told in
    the end. Options for a list of values are given once a value.
    """
    if isinstance(learning["C"], float):
        raise typer.BadParameter("a search chooses C: give a list, 0.1,1,10", param_hint="-C")
    show = progress_option(progress)
    with connect(url) as client:
        dataset = client.datasets.upload(folder, progress=show)
        found = client.heads.search(
            dataset,
            backbone,
            tap,
            [each.value for each in kind or [Kind.SVM]],
            views=view or ["center"],
            pools=pool,
            normalizes=normalize or ["l2"],
            merge=merge,
            weights=weights,
            split=split_option(train_per_class, seed),
            name=name,
            keep=keep,
            progress=show,
            **learning,
        )
    tried = [asdict(candidate) for candidate in found.candidates]
    if as_json:
        best = {"best": asdict(found.best), "head": asdict(found.head.info)}
        typer.echo(json.dumps({"candidates": tried, **best}))
    else:
        typer.echo(f"{_ranking(found.candidates)}\n\n{card(found.head)}")


def _ranking(candidates: Sequence[Candidate]) -> str:
    """All that was tried, best first."""
    ranked = sorted(candidates, key=lambda c: -1.0 if c.score is None else c.score, reverse=True)
    names = list(ranked[0].settings)
    rows = [
        (
            *("own" if c.settings[name] is None else c.settings[name] for name in names),
            f"{c.C:g}",
            percent(c.score),
            percent(c.deviation),
        )
        for c in ranked
    ]
    return table((*names, "C", "held out", "deviation"), rows)

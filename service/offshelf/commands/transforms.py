"""`offshelf transforms`: PCA-whitenings, fitted on the features of a folder of images."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.heads import waited
from offshelf.commands.options import (
    AsJson,
    Backbone,
    Merge,
    Normalize,
    Pool,
    ShowProgress,
    Url,
    View,
    Weights,
    connect,
    progress_option,
)
from offshelf.commands.output import percent, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf_client import Transform

TransformId = Annotated[str, typer.Argument(help="Identifier of the transform.")]

transforms = typer.Typer(
    help="Fit PCA-whitenings, look at them, delete them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@transforms.command()
def fit(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder with a sub-folder of images for each class, or an archive of one.",
            exists=True,
        ),
    ],
    dimensions: Annotated[
        int, typer.Option("--dimensions", "-k", min=1, help="So many numbers come out.")
    ],
    tap: Annotated[str, typer.Option(help="Tap whose features are whitened.")] = "penultimate",
    epsilon: Annotated[float, typer.Option(min=0, help="Added to every variance.")] = 0.0,
    backbone: Backbone = None,
    view: View = "center",
    pool: Pool = None,
    normalize: Normalize = "none",
    merge: Merge = "mean",
    weights: Weights = None,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Fit a whitening on images; what it prints goes into --normalize after the same steps."""
    show = progress_option(progress)
    with connect(url) as client:
        job = client.feature_sets.create(
            client.datasets.upload(folder, progress=show),
            backbone=backbone,
            taps=tap,
            view=view,
            pool=pool,
            normalize=normalize,
            merge=merge,
            weights=weights,
        )
        features = waited(job, show).result["feature_set"]
        job = client.transforms.fit(features, dimensions, epsilon=epsilon, name=name)
        found = client.transforms.get(waited(job, show).result["transform"])
    typer.echo(json.dumps(asdict(found)) if as_json else _card(found))


@transforms.command("list")
def list_transforms(as_json: AsJson = False, url: Url = None) -> None:
    """List transforms, newest first, as heads and data sets are; the API has them by id."""
    with connect(url) as client:
        found = sorted(client.transforms.list(), key=lambda transform: -transform.created_s)
    if as_json:
        typer.echo(json.dumps([asdict(transform) for transform in found]))
    else:
        rows = [
            (t.id, t.name or "-", _features_of(t), f"{t.inputs} to {t.dimensions}") for t in found
        ]
        typer.echo(table(("id", "name", "features", "numbers"), rows))


@transforms.command()
def show(transform_id: TransformId, as_json: AsJson = False, url: Url = None) -> None:
    """Say what a transform was fitted on, and what it keeps."""
    with connect(url) as client, _knowing_transforms():
        found = client.transforms.get(transform_id)
    typer.echo(json.dumps(asdict(found)) if as_json else _card(found))


@transforms.command()
def delete(transform_id: TransformId, url: Url = None) -> None:
    """Remove a transform; heads that were trained on its features can no longer predict."""
    with connect(url) as client, _knowing_transforms():
        client.transforms.delete(transform_id)
    typer.echo(f"deleted transform {transform_id}")


@contextmanager
def _knowing_transforms() -> Iterator[None]:
    """Say where the identifiers of transforms are when one is not known."""
    from offshelf_client import UnknownNameError

    try:
        yield
    except UnknownNameError as error:
        error.add_note("`offshelf transforms list` shows those that there are")
        raise


def _card(transform: Transform) -> str:
    before = transform.spec["normalisation"]
    chain = transform.step if before == "none" else f"{before},{transform.step}"
    return (
        f"{transform.inputs} numbers to {transform.dimensions}, which keep "
        f"{percent(transform.explained)} of the variance of {transform.samples} features of "
        f"{_features_of(transform)}\n--normalize {chain}"
    )


def _features_of(transform: Transform) -> str:
    return f"{transform.spec.get('backbone')}/{transform.spec.get('tap')}"

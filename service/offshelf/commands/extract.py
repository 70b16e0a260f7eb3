"""`offshelf extract`: the features of a folder of images, whatever its size, into a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from offshelf.commands.extract_state import State, images_digest
from offshelf.commands.heads import waited
from offshelf.commands.options import (
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
from offshelf.commands.output import table
from offshelf.commands.trying import try_features

if TYPE_CHECKING:
    from offshelf_client import Client, FeatureSet, Job


class Format(StrEnum):
    """Kinds of files."""

    NPY = "npy"
    SAFETENSORS = "safetensors"
    PARQUET = "parquet"
    ARROW = "arrow"


Formats = Annotated[
    list[Format] | None,
    typer.Option("--format", help="Kind of file; repeat it for several. npy if not given."),
]


def extract(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder with a sub-folder of images for each class, or an archive of one.",
            exists=True,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for what is made.", file_okay=False),
    ],
    tap: Annotated[
        list[str] | None,
        typer.Option(help="Tap, e.g. fc7, fc7:pre, conv5; repeat it for several in one pass."),
    ] = None,
    backbone: Backbone = None,
    view: View = "center",
    pool: Pool = None,
    normalize: Normalize = "none",
    merge: Merge = "mean",
    weights: Weights = None,
    form: Formats = None,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Fix the batches, so that every run gives the same."),
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Work in this process, without a service.")
    ] = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Extract the features of a folder of images at one or more taps, into a folder.

    Writes TAP.npy, items.csv (path, label, row), errors.csv and manifest.json. Run again it does
    what is missing. Ctrl-C leaves the job to the service; with --local it stops, and what is done
    is kept in OUTPUT/.offshelf.
    """
    request = {
        "taps": tap or ["penultimate"],
        "backbone": backbone,
        "view": view,
        "pool": pool,
        "normalize": normalize,
        "merge": merge,
        "weights": weights,
        "deterministic": deterministic,
    }
    from offshelf_client._feature_files import note_left_out

    formats: list[Any] = [one.value for one in dict.fromkeys(form or [Format.NPY])]
    show = progress_option(progress)
    output.mkdir(parents=True, exist_ok=True)
    if local:
        from offshelf.commands.extract_local import extract_local

        extract_local(folder, output, request, formats, show)
    else:
        with connect(url) as client:
            made = _features(client, folder, output, request, show)
            made.download(output, formats, progress=show)
    left_out = State.read(output)
    note_left_out(output, left_out.skipped, left_out.skipped_total)
    report(output)


def report(output: Path) -> None:
    """Say what is in an output folder; exit status 1 where no image has features."""
    told = json.loads((output / "manifest.json").read_text())
    label = told["weights"]["label"]
    random = ": RANDOM WEIGHTS, nothing learned" if told["weights"]["random"] else ""
    backbone = next(iter(told["specs"].values())).get("backbone", "")
    typer.echo(f"{backbone}, {label}{random}: {told['rows']} of {told['total']} images")
    rows = [
        (tap, "x".join(map(str, [told["rows"], *shape["row_shape"]])), told["fingerprints"][tap])
        for tap, shape in told["taps"].items()
    ]
    typer.echo(table(("tap", "shape", "fingerprint"), rows))
    if told["failed"]:
        typer.echo(f"{told['failed']} images failed: {output / 'errors.csv'}", err=True)
    if left_out := told.get("left_out_total", 0):
        named = len(told["left_out"])
        which = f" (the first {named} of them)" if named < left_out else ""
        typer.echo(f"{left_out} files were left out: {output / 'errors.csv'}{which}", err=True)
    if not told["rows"]:
        typer.echo("error: no image has features", err=True)
        raise typer.Exit(1)


def _features(
    client: Client,
    folder: Path,
    output: Path,
    request: dict[str, Any],
    show: bool | Literal["force"],
) -> FeatureSet:
    """The features on the service; what an earlier run began is gone on with."""
    from offshelf_client import UnknownNameError

    state = State.read(output)
    images = images_digest(folder)
    if state.request != request:
        try_features(client, **{k: v for k, v in request.items() if k != "deterministic"})
    state = _with_dataset(client, state, folder, images, show)
    state.write(output)
    job = _open_job(client, state, request)
    if job is not None and job.status.finished:
        try:
            return job.feature_set()
        except UnknownNameError:  # it was deleted
            job = None
    if job is None:
        job = client.feature_sets.create(state.dataset, **request)
    replace(state, request=request, job=job.id).write(output)
    try:
        return waited(job, show).feature_set()
    except KeyboardInterrupt:
        typer.echo("the same command again waits for it, and downloads what it made", err=True)
        raise


def _with_dataset(
    client: Client, state: State, folder: Path, images: str, show: bool | Literal["force"]
) -> State:
    """With the dataset of these images, uploaded unless the service has it from an earlier run."""
    from offshelf_client import UnknownNameError

    if (state.where, state.images) == (client.url, images):
        try:
            client.datasets.get(state.dataset)
        except UnknownNameError:
            pass  # it was deleted meanwhile
        else:
            return state
    made = client.datasets.upload(folder, layout="folder", progress=show)
    return state.with_dataset(client.url, images, made)


def _open_job(client: Client, state: State, request: dict[str, Any]) -> Job | None:
    """The job of an earlier run for the same, if it goes on or has made its features."""
    from offshelf_client import UnknownNameError

    if not state.job or state.request != request:
        return None
    try:
        job = client.jobs.get(state.job)
    except UnknownNameError:
        return None
    return job if job.state in ("queued", "running", "succeeded") else None

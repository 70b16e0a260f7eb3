"""`offshelf feature-sets`: the features of whole data sets that the service keeps."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offshelf.commands.extract import Format, Formats, report
from offshelf.commands.options import AsJson, ShowProgress, Url, connect, progress_option
from offshelf.commands.output import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf_client import FeatureSet, FeatureSetInfo

FeatureSetId = Annotated[str, typer.Argument(help="Identifier of the feature set.")]
NAMED = 10  # the manifest of a download has all that failed

feature_sets = typer.Typer(
    help="Look at the features of data sets, download them, delete them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@feature_sets.command("list")
def list_feature_sets(as_json: AsJson = False, url: Url = None) -> None:
    """List feature sets, newest first."""
    with connect(url) as client:
        found = sorted(client.feature_sets.list(), key=lambda info: -info.created_s)
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in found]))
    else:
        header = ("id", "dataset", "features", "rows", "failed", "created")
        typer.echo(table(header, [_row(info) for info in found]))


@feature_sets.command()
def show(feature_set_id: FeatureSetId, as_json: AsJson = False, url: Url = None) -> None:
    """Say what a feature set is, and which images failed."""
    with connect(url) as client, _knowing_feature_sets():
        found = client.feature_sets.get(feature_set_id)
    if as_json:
        errors = {number: asdict(error) for number, error in found.errors.items()}
        typer.echo(json.dumps({**asdict(found.info), "kept": found.kept, "errors": errors}))
    else:
        typer.echo(_card(found))


@feature_sets.command()
def download(
    feature_set_id: FeatureSetId,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the files.", file_okay=False)
    ],
    tap: Annotated[
        list[str] | None, typer.Option(help="Tap; repeat it for several. All if not given.")
    ] = None,
    form: Formats = None,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Download the files of a feature set; run again it goes on where it broke."""
    formats: list[Any] = [one.value for one in dict.fromkeys(form or [Format.NPY])]
    output.mkdir(parents=True, exist_ok=True)
    with connect(url) as client, _knowing_feature_sets():
        found = client.feature_sets.get(feature_set_id)
        unknown = [name for name in tap or [] if name not in found.fingerprints]
        if unknown:
            known = ", ".join(found.fingerprints)
            message = f"there is no tap {unknown[0]!r}; there are {known}"
            raise typer.BadParameter(message, param_hint="--tap")
        found.download(output, formats, tap, progress=progress_option(progress))
    report(output)


@feature_sets.command()
def delete(feature_set_id: FeatureSetId, url: Url = None) -> None:
    """Remove a feature set; its dataset stays."""
    with connect(url) as client, _knowing_feature_sets():
        client.feature_sets.delete(feature_set_id)
    typer.echo(f"deleted feature set {feature_set_id}")


@contextmanager
def _knowing_feature_sets() -> Iterator[None]:
    """Say where the identifiers of feature sets are when one is not known."""
    from offshelf_client import UnknownNameError

    try:
        yield
    except UnknownNameError as error:
        error.add_note("`offshelf feature-sets list` shows those that there are")
        raise


def _row(info: FeatureSetInfo) -> tuple[object, ...]:
    created = datetime.fromtimestamp(info.created_s, UTC)
    when = f"{created:%Y-%m-%d %H:%M} UTC"
    return info.id, info.dataset, _features_of(info), info.rows, info.failed, when


def _features_of(info: FeatureSetInfo) -> str:
    backbone = next(iter(info.specs.values()), {}).get("backbone")
    return f"{backbone}/{' '.join(info.specs)}"


def _card(found: FeatureSet) -> str:
    info = found.info
    random = ": RANDOM WEIGHTS, nothing learned" if info.weights.random else ""
    rows = [
        (tap, "x".join(map(str, [info.rows, *shape.row_shape])), info.fingerprints[tap])
        for tap, shape in info.taps.items()
    ]
    failed = sorted(found.errors.items())
    named = [f"item {number} failed: {error.message}" for number, error in failed[:NAMED]]
    more = [f"and {len(failed) - NAMED} more"] if len(failed) > NAMED else []
    return "\n".join(
        [
            f"feature set {info.id} of dataset {info.dataset}",
            (
                f"{_features_of(info)} ({info.weights.label}{random}): "
                f"{info.rows} of {info.total} images"
            ),
            table(("tap", "shape", "fingerprint"), rows),
            *named,
            *more,
        ]
    )

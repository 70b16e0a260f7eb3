"""`offshelf train` and `offshelf predict`: linear heads on features."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from offshelf.commands.evaluations import shots_option
from offshelf.commands.figures import published_table
from offshelf.commands.learning import Kind, with_learning
from offshelf.commands.options import (
    AsJson,
    Backbone,
    Images,
    Merge,
    Normalize,
    OnError,
    Pool,
    ShowProgress,
    Url,
    View,
    Weights,
    WhenImagesFail,
    connect,
    image_files,
    progress_option,
)
from offshelf.commands.output import percent, table
from offshelf.commands.trying import try_features

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf_client import (
        Calibration,
        Choice,
        Head,
        HeadInfo,
        Job,
        Prediction,
        ProtocolReport,
        RandomSplit,
    )


@with_learning()
def train(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder with a sub-folder of images for each class, or an archive of one.",
            exists=True,
        ),
    ],
    tap: Annotated[str, typer.Option(help="Tap whose features are learned from.")] = "penultimate",
    kind: Annotated[Kind, typer.Option(help="What is trained; docs/heads.md.")] = Kind.SVM,
    train_per_class: Annotated[
        int | None,
        typer.Option(min=1, help="So many random images a class train, the others test."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that choice.")] = 0,
    backbone: Backbone = None,
    view: View = "center",
    pool: Pool = None,
    normalize: Normalize = "none",
    merge: Merge = "mean",
    weights: Weights = None,
    low_shot: Annotated[
        str | None,
        typer.Option(
            help="Also train on so few images a class, e.g. 1,2,4,8; `offshelf heads report` "
            "has the curve.",
            metavar="K1,K2,...",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="A name; one that exists gets a new version.")] = "",
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
    *,
    learning: dict[str, Any],
) -> None:
    """Train a linear head on a folder of labelled images."""
    show = progress_option(progress)
    features: dict[str, Any] = {
        "backbone": backbone,
        "view": view,
        "pool": pool,
        "normalize": normalize,
        "merge": merge,
        "weights": weights,
    }
    with connect(url) as client:
        try_features(client, taps=tap, **features)
        dataset = client.datasets.upload(folder, progress=show)
        job = client.heads.train(
            dataset,
            tap=tap,
            kind=kind.value,
            **features,
            split=split_option(train_per_class, seed),
            low_shot=shots_option(low_shot),
            name=name,
            **learning,
        )
        head = waited(job, show).head()
    if job.status.failed:
        told = f"warning: {job.status.failed} of {job.status.total} images could not be read"
        typer.echo(told, err=True)
    typer.echo(json.dumps(asdict(head.info)) if as_json else card(head))


def predict(
    head_id: Annotated[
        str,
        typer.Argument(
            help="A head: its identifier, as `train` prints it, or NAME, NAME:3, NAME:TAG.",
            metavar="HEAD",
        ),
    ],
    images: Images,
    top: Annotated[int, typer.Option(min=1, help="So many best classes an image.")] = 1,
    on_error: WhenImagesFail = OnError.RAISE,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Say what a trained head sees in images."""
    files = image_files(images)
    with connect(url) as client:
        with knowing_heads():
            head = client.heads.get(head_id)
        found = head.predict(files, on_error=on_error.value, progress=progress_option(progress))
    _tell_skipped(found, files)
    if as_json:
        named = [{**asdict(p), "name": str(files[p.index])} for p in found]
        typer.echo(json.dumps(named))
    else:
        rows = [row for prediction in found for row in _ranked(prediction, files, top)]
        typer.echo(table(("image", "label", "score"), rows))


def split_option(train_per_class: int | None, seed: int) -> RandomSplit | None:
    """A random split, or none."""
    from offshelf_client import RandomSplit

    return None if train_per_class is None else RandomSplit(train_per_class, seed=seed)


def waited(job: Job, show: bool | Literal["force"]) -> Job:
    """Name a job and wait for it; who stops waiting is told that it goes on."""
    from offshelf_client import TransportError

    try:
        typer.echo(f"job {job.id} (offshelf jobs wait {job.id})", err=True)
        return job.wait(progress=show)
    except (KeyboardInterrupt, TransportError):
        left = f"job {job.id} goes on without this command; wait for it: offshelf jobs wait "
        typer.echo(f"{left}{job.id}, end it: offshelf jobs cancel {job.id}", err=True)
        raise


@contextmanager
def knowing_heads() -> Iterator[None]:
    """Say where the identifiers of heads are when one is not known."""
    from offshelf_client import UnknownNameError

    try:
        yield
    except UnknownNameError as error:
        error.add_note("`offshelf heads list` shows those that there are")
        raise


def _tell_skipped(found: list[Prediction], files: list[Path]) -> None:
    kept = {prediction.index for prediction in found}
    for index, file in enumerate(files):
        if index not in kept:
            typer.echo(f"skipped {file}: no prediction", err=True)


def card(head: Head) -> str:
    """What a head is and how well it does, for people."""
    info, report = head.info, head.report
    sides = [("train", report.train)] + ([("test", report.test)] if report.test else [])
    if info.multi_label:
        header = ("", "images", "mAP, 11 points", "mAP, all points")
        figures = [(m.map_11pt, m.map_all_point) for _, m in sides]
    else:
        header = ("", "images", "accuracy", "mean of classes")
        figures = [(m.accuracy, m.mean_class_accuracy) for _, m in sides]
    rows = [
        (side, m.images, *map(percent, pair))
        for (side, m), pair in zip(sides, figures, strict=True)
    ]
    parts = [_title(info), table(header, rows)]
    if info.choice:
        parts += ["", choice_table(info.choice, info.C)]
    if info.calibration:
        parts.append(_calibrated(info.calibration))
    if report.protocol:
        parts += ["", _protocol(report.protocol), "", published_table(report.protocol.table)]
    return "\n".join([*parts, *(f"warning: {w}" for w in info.warnings)])


def choice_table(choice: Choice, C: float) -> str:
    """What was tried, in per cent, with a mark at what was taken."""
    rows = [
        (
            ">" if not choice.by_class and point.C == C else "",
            f"{point.C:g}",
            percent(point.mean),
            percent(point.deviation),
        )
        for point in choice.path
    ]
    told = f"C by {choice.metric} on {choice.held_out}"
    if choice.by_class:
        taken = ", ".join(f"{name} {value:g}" for name, value in choice.by_class.items())
        told += f", one a class: {taken}"
    return f"{told}\n{table(('', 'C', 'mean', 'deviation'), rows)}"


def _calibrated(calibration: Calibration) -> str:
    how: str = calibration.method
    if calibration.temperature is not None:
        how += f" {calibration.temperature:.3g}"
    return (
        f"calibrated by {how} on {calibration.held_out}: ECE {calibration.ece_before:.4f} before, "
        f"{calibration.ece_after:.4f} after"
    )


def _protocol(report: ProtocolReport) -> str:
    unscored = f", {report.unscored} of them without features" if report.unscored else ""
    return (
        f"{report.protocol}, split {report.split}: {report.trained} trained, "
        f"{report.tested} tested{unscored}"
    )


def _title(info: HeadInfo) -> str:
    random = ": RANDOM WEIGHTS, nothing learned" if info.weights.random else ""
    return (
        f"head {info.id}{_named(info)}\n{info.kind}, C={info.C:g}, {len(info.classes)} classes, on "
        f"{features_of(info)} ({info.weights.label}{random})"
    )


def _named(info: HeadInfo) -> str:
    tags = f" ({', '.join(info.tags)})" if info.tags else ""
    return f", {info.ref}{tags}" if info.name else ""


def features_of(info: HeadInfo) -> str:
    """The features of a head: `alexnet/fc7 pool=none normalize=none view=center`."""
    options = {"pool": "pooling", "normalize": "normalisation", "view": "view", "merge": "merge"}
    told = [
        f" {name}={info.spec[key]}"
        for name, key in options.items()
        # The mean of one input, or of several, is what there is unless somebody asks.
        if key in info.spec and (key, info.spec[key]) != ("merge", "mean")
    ]
    return f"{info.spec.get('backbone')}/{info.spec.get('tap')}{''.join(told)}"


def _ranked(prediction: Prediction, files: list[Path], top: int) -> list[tuple[str, str, str]]:
    best = prediction.top(top)
    name = str(files[prediction.index])
    return [
        (name if i == 0 else "", label, f"{score:.4f}") for i, (label, score) in enumerate(best)
    ]

"""`offshelf train` and `offshelf predict`: linear heads on features."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.options import (
    AsJson,
    Backbone,
    Images,
    Normalize,
    Pool,
    ShowProgress,
    Url,
    View,
    Weights,
    connect,
    image_files,
    progress_option,
)
from offshelf.commands.output import percent, table

if TYPE_CHECKING:
    from offshelf_client import Head, HeadInfo, Prediction, RandomSplit


class Kind(StrEnum):
    """Kinds of linear models."""

    SVM = "svm"
    LOGREG = "logreg"


def train(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder with a sub-folder of images for each class, or an archive of one.",
            exists=True,
        ),
    ],
    tap: Annotated[str, typer.Option(help="Tap whose features are learned from.")] = "penultimate",
    kind: Annotated[Kind, typer.Option(help="Linear SVM or logistic regression.")] = Kind.SVM,
    c: Annotated[
        float, typer.Option("--C", "-C", help="Inverse strength of the regularisation.")
    ] = 1.0,
    train_per_class: Annotated[
        int | None,
        typer.Option(min=1, help="So many random images a class train, the others test."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that choice.")] = 0,
    backbone: Backbone = None,
    view: View = "center",
    pool: Pool = None,
    normalize: Normalize = "none",
    weights: Weights = None,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Train a linear head on a folder of labelled images."""
    show = progress_option(progress)
    with connect(url) as client:
        dataset = client.datasets.upload(folder, progress=show)
        job = client.heads.train(
            dataset,
            backbone=backbone,
            tap=tap,
            kind=kind.value,
            C=c,
            view=view,
            pool=pool,
            normalize=normalize,
            weights=weights,
            split=_split(train_per_class, seed),
            name=name,
        )
        head = job.wait(progress=show).head()
    typer.echo(json.dumps(asdict(head.info)) if as_json else _card(head))


def predict(
    head_id: Annotated[str, typer.Argument(help="Identifier of a head, as `train` prints it.")],
    images: Images,
    top: Annotated[int, typer.Option(min=1, help="So many best classes an image.")] = 1,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Say what a trained head sees in images."""
    files = image_files(images)
    with connect(url) as client:
        head = client.heads.get(head_id)
        found = head.predict(files, progress=progress_option(progress))
    if as_json:
        named = [{**asdict(p), "name": str(files[p.index])} for p in found]
        typer.echo(json.dumps(named))
    else:
        rows = [row for prediction in found for row in _ranked(prediction, files, top)]
        typer.echo(table(("image", "label", "score"), rows))


def _split(train_per_class: int | None, seed: int) -> RandomSplit | None:
    from offshelf_client import RandomSplit

    return None if train_per_class is None else RandomSplit(train_per_class, seed=seed)


def _card(head: Head) -> str:
    info, report = head.info, head.report
    sides = [("train", report.train)] + ([("test", report.test)] if report.test else [])
    rows = [
        (side, m.images, percent(m.accuracy), percent(m.mean_class_accuracy)) for side, m in sides
    ]
    shown = table(("", "images", "accuracy", "mean of classes"), rows)
    return "\n".join([_title(info), shown, *(f"warning: {w}" for w in info.warnings)])


def _title(info: HeadInfo) -> str:
    random = ": RANDOM WEIGHTS, nothing learned" if info.weights.random else ""
    return (
        f"head {info.id}\n{info.kind}, C={info.C:g}, {len(info.classes)} classes, on "
        f"{info.spec.get('backbone')}/{info.spec.get('tap')} ({info.weights.label}{random})"
    )


def _ranked(prediction: Prediction, files: list[Path], top: int) -> list[tuple[str, str, str]]:
    best = prediction.top(top)
    name = str(files[prediction.index])
    return [
        (name if i == 0 else "", label, f"{score:.4f}") for i, (label, score) in enumerate(best)
    ]

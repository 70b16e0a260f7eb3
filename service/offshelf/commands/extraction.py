"""`offshelf features`: features of image files, into a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offshelf.commands.options import (
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
from offshelf.commands.output import table

if TYPE_CHECKING:
    from offshelf_client import Features, Item


def features(
    images: Images,
    tap: Annotated[
        list[str] | None,
        typer.Option(help="Tap, e.g. fc7, fc7:pre, conv5; repeat it for several in one pass."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help=".npz: an array a tap, and `meta`; .npy: the array of one tap."
        ),
    ] = None,
    backbone: Backbone = None,
    view: View = "center",
    pool: Pool = None,
    normalize: Normalize = "none",
    merge: Merge = "mean",
    weights: Weights = None,
    windows: Annotated[
        str | None,
        typer.Option(
            help="A row for each window: pyramid, pyramid:1,1.3,2;overlap=0.65, stride:SIDE,STEP."
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="A row for this box of every image, in pixels; repeat it for several.",
            metavar="L,T,R,B",
        ),
    ] = None,
    on_error: WhenImagesFail = OnError.RAISE,
    progress: ShowProgress = None,
    url: Url = None,
) -> None:
    """Extract features of images at one or more taps."""
    taps = tap or ["penultimate"]
    _check_output(output, taps)
    boxes = _boxes(box, windows)
    files = image_files(images)
    with connect(url) as client:
        found = client.features(
            files,
            backbone=backbone,
            taps=taps,
            view=view,
            pool=pool,
            normalize=normalize,
            merge=merge,
            weights=weights,
            boxes=[boxes] * len(files) if boxes else None,
            windows=windows,
            on_error=on_error.value,
            progress=progress_option(progress),
        )
    if output is not None:
        _save(found, files, output)
    _report(found)
    if output is None:
        typer.echo("nothing was saved: name a file with --output (-o) to keep these", err=True)


def _check_output(output: Path | None, taps: list[str]) -> None:
    if output is None:
        return
    if output.suffix not in (".npz", ".npy"):
        raise typer.BadParameter(f"{output} must end in .npz or .npy", param_hint="--output")
    if output.suffix == ".npy" and len(taps) > 1:
        raise typer.BadParameter(".npy holds one tap; use .npz", param_hint="--output")
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{output.parent} is no folder", param_hint="--output")


def _boxes(given: list[str] | None, windows: str | None) -> list[list[float]]:
    """The boxes that `--box` names; BadParameter for a malformed one."""
    if given and windows:
        raise typer.BadParameter("give --box or --windows, not both", param_hint="--box")
    boxes = []
    for text in given or []:
        try:
            left, top, right, bottom = map(float, text.split(","))
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r} is no box: four numbers, left,top,right,bottom", param_hint="--box"
            ) from error
        boxes.append([left, top, right, bottom])
    return boxes


def _save(found: Features, files: list[Path], output: Path) -> None:
    """Write to a neighbour first: a file of the final name is whole."""
    import numpy as np

    part = output.with_name(output.name + ".part")
    with part.open("wb") as file:
        if output.suffix == ".npy":
            np.save(file, next(iter(found.values())), allow_pickle=False)
        else:
            meta = np.frombuffer(json.dumps(_meta(found, files)).encode(), np.uint8)
            boxed = {"image_index": found.image_index, "boxes": found.boxes}
            more = {name: array for name, array in boxed.items() if array is not None}
            np.savez(file, allow_pickle=False, **found, **more, meta=meta)
    part.replace(output)


def _meta(found: Features, files: list[Path]) -> dict[str, object]:
    """What the service's own npz answers say, for one request or many (they have no id then)."""
    return {
        "request_id": "",
        "backbone": found.backbone,
        "weights": asdict(found.weights) if found.weights else None,
        "taps": {
            tap: {
                "tap": tap,
                "fingerprint": found.fingerprints.get(tap, ""),
                "spec": found.specs.get(tap, {}),
                "shape": list(array.shape),
                "data": None,
            }
            for tap, array in found.items()
        },
        "items": [_item(item, files[item.index]) for item in found.items],
    }


def _item(item: Item, file: Path) -> dict[str, object]:
    """An item as the service writes it, which has `rows` for boxes alone."""
    told = {**asdict(item), "name": str(file)}
    if item.rows is None:
        del told["rows"]
    return told


def _report(found: Features) -> None:
    random = found.weights is not None and found.weights.random
    label = found.weights.label if found.weights else "no weights"
    typer.echo(f"{found.backbone}, {label}" + (": RANDOM WEIGHTS, nothing learned" * random))
    rows = [
        (tap, "x".join(map(str, array.shape)), found.fingerprints.get(tap, "-"))
        for tap, array in found.items()
    ]
    typer.echo(table(("tap", "shape", "fingerprint"), rows))
    for item in found.items:
        if item.error is not None:
            typer.echo(f"skipped {item.describe()}", err=True)

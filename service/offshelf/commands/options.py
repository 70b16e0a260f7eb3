"""The options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from offshelf_client import Client


class OnError(StrEnum):
    """What to do when some of the images fail."""

    RAISE = "raise"
    SKIP = "skip"


WhenImagesFail = Annotated[OnError, typer.Option(help="What to do when some of the images fail.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the service; OFFSHELF_URL or http://127.0.0.1:8765 when left out.",
        metavar="URL",
        envvar="OFFSHELF_URL",
        show_envvar=False,
    ),
]
Images = Annotated[
    list[Path],
    typer.Argument(help="Image files, or folders of them.", metavar="IMAGE", exists=True),
]
Backbone = Annotated[
    str | None, typer.Option(help="Name of the backbone; the service's default when left out.")
]
View = Annotated[
    str,
    typer.Option(
        help="How an image becomes network inputs: center, warp, squash, five_crop, ten_crop, "
        "multi_scale:Q1,Q2, dense:Q1,Q2, razavian[:DEG], each with +hflip, +vflip, +rotate:DEG, "
        "+mirror as wanted."
    ),
]
Merge = Annotated[
    str, typer.Option(help="What becomes of several inputs of an image: mean, concat, stack.")
]
Pool = Annotated[
    str | None,
    typer.Option(
        help="Pooling of maps: none, avg, max, grid:N, pyramid:N1,N2 (:avg for means); "
        "the tap's own if not."
    ),
]
Normalize = Annotated[
    str,
    typer.Option(
        help="Normalisation of each vector: none, or steps with commas between: l2, power:P, "
        "whiten:ID."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Other published weights by name (IMAGENET1K_V2), or random:SEED; else the "
        "backbone's own."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ShowProgress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress",
        help="Show progress on standard error; by default if that is a terminal.",
        show_default=False,
    ),
]


def connect(url: str | None) -> Client:
    """A client of the service; used as a context manager."""
    from offshelf_client import Client

    return Client(url)


def progress_option(wanted: bool | None) -> bool | Literal["force"]:
    """What the SDK calls the choice of `--progress`, `--no-progress` or neither."""
    return "force" if wanted else wanted is None


def image_files(paths: list[Path]) -> list[Path]:
    """The files named, with those of folders in their place, sorted; BadParameter for none."""
    from offshelf_client import images_in

    found = [file for path in paths for file in (images_in(path) if path.is_dir() else [path])]
    if not found:
        folders = ", ".join(map(str, paths))
        raise typer.BadParameter(f"there are no images in {folders}", param_hint="IMAGE")
    return found

"""The command line: `offshelf` and its commands, each in a module of `offshelf.commands`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from offshelf import __version__
from offshelf.commands import (
    datasets,
    extract,
    extraction,
    feature_sets,
    heads,
    jobs,
    kept_heads,
    listing,
    reproduce,
    search,
    selftest,
    serving,
    transforms,
    weights,
)
from offshelf.commands.failures import one_line


class Commands(typer.core.TyperGroup):
    """Turns errors that are somebody's fault into one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; with `--debug` errors keep their traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            message = one_line(error)
            if message is None or ctx.params.get("debug"):
                raise
            typer.echo(f"error: {message}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    name="offshelf",
    help="CNN features off the shelf, as a service.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"offshelf {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """CNN features off the shelf, as a service."""


app.command()(serving.serve)
app.command()(serving.api)
app.command()(serving.worker)
app.command()(serving.health)
app.command()(extraction.features)
app.command()(extract.extract)
app.command()(heads.train)
app.command()(search.search)
app.command()(heads.predict)
app.command()(reproduce.reproduce)
app.add_typer(kept_heads.heads, name="heads")
app.add_typer(datasets.datasets, name="datasets")
app.add_typer(feature_sets.feature_sets, name="feature-sets")
app.add_typer(weights.weights, name="weights")
app.add_typer(transforms.transforms, name="transforms")
app.command()(listing.backbones)
app.add_typer(jobs.jobs, name="jobs")
app.command()(selftest.selftest)
app.command()(serving.demo)

if __name__ == "__main__":
    app()

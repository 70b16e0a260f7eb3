"""`offshelf reproduce`: one protocol from the folder of a data set to the paper's table."""

from __future__ import annotations

import json
import statistics
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from offshelf.commands.figures import published_table, splits_table
from offshelf.commands.heads import features_of
from offshelf.commands.learning import Kind, with_learning
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offshelf.datasets.protocols.interface import Card, Description, Metric, Protocol, Published
    from offshelf_client import Client, Dataset, Head, Job, ProtocolReport


@with_learning()
def reproduce(
    protocol: Annotated[
        str, typer.Argument(help="Name of a protocol: `offshelf datasets protocols` lists them.")
    ],
    data: Annotated[
        Path,
        typer.Option(help="Folder of the data set.", metavar="DIR", exists=True, file_okay=False),
    ],
    backbone: Backbone = None,
    tap: Annotated[str, typer.Option(help="Tap whose features are learned from.")] = "penultimate",
    view: View = "center",
    pool: Pool = None,
    normalize: Normalize = "none",
    merge: Merge = "mean",
    weights: Weights = None,
    kind: Annotated[Kind, typer.Option(help="Linear SVM or logistic regression.")] = Kind.SVM,
    splits: Annotated[
        int | None, typer.Option(min=1, help="So many of the protocol's splits; else all.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Start a service for this run, and stop it at the end.")
    ] = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    url: Url = None,
    *,
    learning: dict[str, Any],
) -> None:
    """Run a published protocol on features of ours, and print the paper's table with our row.

    A data set that the service has already is not uploaded again, nor are features extracted
    again. Ctrl-C cancels what is queued.
    """
    from offshelf.datasets.protocols.interface import PROTOCOLS

    found = PROTOCOLS.get(protocol)
    show = progress_option(progress)
    features = {
        "backbone": backbone,
        "view": view,
        "pool": pool,
        "normalize": normalize,
        "merge": merge,
        "weights": weights,
    }
    with _service(url, local=local) as client:
        description = found.read(data)
        numbers = _numbers(description, splits)
        dataset = _dataset(client, found, description, data, show)
        taught = {"kind": kind.value, **learning}
        heads = _heads(client, dataset, numbers, tap, features, taught, show)
    result = Reproduction.of(found.card, dataset, heads)
    typer.echo(json.dumps(result.as_dict()) if as_json else result.text())


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of it: a head and a report for each split, and the table with our row.

    `figures` has the mean over the splits, as a fraction, and the deviation (of a sample, n - 1)
    where there are several.
    """

    card: Card
    dataset: Dataset
    heads: Sequence[Head]
    reports: Sequence[ProtocolReport]
    figures: dict[str, tuple[float, float | None]]
    table: Sequence[Published]

    @classmethod
    def of(cls, card: Card, dataset: Dataset, heads: Sequence[Head]) -> Reproduction:
        """Put the heads' reports together."""
        from offshelf.datasets.protocols.evaluation import beside

        reports = [head.report.protocol for head in heads if head.report.protocol]
        info = heads[0].info
        method = f"{info.spec['backbone']} {info.spec['tap']}, {info.kind}"
        figures = {}
        rows: list[Published] = []
        for metric in reports[0].figures:
            values = [report.figures[metric] for report in reports]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            figures[metric] = (statistics.fmean(values), deviation)
            per_cent = None if deviation is None else 100 * deviation
            mean = 100 * statistics.fmean(values)
            rows += beside(card, method, cast("Metric", metric), mean, per_cent)
        return cls(card, dataset, heads, reports, figures, rows)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data; figures are fractions, the table is per cent."""
        info = self.heads[0].info
        return {
            "protocol": self.card.name,
            "dataset": self.dataset.id,
            "kind": info.kind,
            "C": info.C if info.choice is None else [head.info.C for head in self.heads],
            "learning": info.learning,
            "spec": info.spec,
            "fingerprint": info.fingerprint,
            "weights": asdict(info.weights),
            "figures": {
                metric: {"mean": mean, "deviation": deviation}
                for metric, (mean, deviation) in self.figures.items()
            },
            "splits": [
                {"head": head.id, "warnings": head.info.warnings}
                | {name: value for name, value in asdict(report).items() if name != "table"}
                for head, report in zip(self.heads, self.reports, strict=True)
            ],
            "table": [row.model_dump() for row in self.table],
        }

    def text(self) -> str:
        """All of it for people."""
        info = self.heads[0].info
        random = ": RANDOM WEIGHTS, nothing learned" if info.weights.random else ""
        warnings = dict.fromkeys(warning for head in self.heads for warning in head.info.warnings)
        parts = [
            f"{self.card.name}: {self.card.title}; {self.card.procedure}",
            f"dataset {self.dataset.id}, {features_of(info)} ({info.weights.label}{random})",
            f"{info.kind}, {_Cs(self.heads)}, one head a split",
            "",
            splits_table(self.reports, [head.id for head in self.heads]),
            "",
            published_table(self.table),
            *(f"warning: {warning}" for warning in warnings),
        ]
        return "\n".join(parts)


def _Cs(heads: Sequence[Head]) -> str:  # noqa: N802 - as it is written
    """The C of all heads, or what was chosen for each."""
    choice = heads[0].info.choice
    told = ", ".join(f"{head.info.C:g}" for head in (heads if choice else heads[:1]))
    return f"C={told}" if choice is None else f"C={told} by {choice.metric} on {choice.held_out}"


@contextmanager
def _service(url: str | None, *, local: bool) -> Iterator[Client]:
    """A client of the service that is to do it; one of our own where `local`."""
    from offshelf_client import ConnectionFailed

    if local:
        with _own() as address, connect(address) as client:
            yield client
        return
    with connect(url) as client:
        try:
            client.health(live=True)
        except ConnectionFailed as error:
            error.add_note("or let this command start one for itself with --local")
            raise
        yield client


@contextmanager
def _own() -> Iterator[str]:
    """A service with a data directory of its own, which keeps features for the next run."""
    from offshelf.commands.own_service import own_service
    from offshelf.settings import Settings

    folder = Settings().data_dir.absolute() / "reproduce"
    folder.mkdir(parents=True, exist_ok=True)
    typer.echo(f"starting a service; its log is {folder / 'service.log'}", err=True)
    with own_service(folder / "service", folder / "service.log") as url:
        yield url


def _numbers(description: Description, wanted: int | None) -> range:
    """The numbers of the splits to run; each must have a test that can be scored here."""
    import numpy as np

    from offshelf.datasets.protocols.evaluation import evaluate

    there = len(description.splits)
    if wanted is not None and wanted > there:
        raise typer.BadParameter(f"{description.protocol} has {there} here", param_hint="--splits")
    for split in description.splits[:wanted]:
        evaluate(description, split, np.zeros((len(split.test), len(description.classes))))
    return range(1, (wanted or there) + 1)


def _dataset(
    client: Client,
    protocol: Protocol,
    description: Description,
    data: Path,
    show: bool | Literal["force"],
) -> Dataset:
    """The dataset on the service, found by its content or uploaded."""
    from offshelf.datasets.protocol_import import id_of_copy
    from offshelf_client import UnknownNameError

    try:
        return client.datasets.get(id_of_copy(description, protocol.locate(data)))
    except UnknownNameError:
        return client.datasets.upload(data, protocol=protocol.card.name, progress=show)


def _heads(
    client: Client,
    dataset: Dataset,
    numbers: range,
    tap: str,
    features: dict[str, Any],
    learning: dict[str, Any],
    show: bool | Literal["force"],
) -> list[Head]:
    """A head a split. All features are extracted first, once for all of them."""
    from offshelf_client import ProtocolSplit

    jobs: list[Job] = []
    with _cancelling(jobs):
        jobs.append(client.feature_sets.create(dataset, taps=tap, **features))
        jobs[0].wait(progress=show)
        for number in numbers:
            split = ProtocolSplit(number)
            jobs.append(client.heads.train(dataset, tap=tap, split=split, **features, **learning))
        return [job.wait(progress=show).head() for job in jobs[1:]]


@contextmanager
def _cancelling(jobs: list[Job]) -> Iterator[None]:
    """Cancel all jobs when somebody stops waiting, or one of them fails.

    Where the service cannot be reached any more they go on.
    """
    from offshelf_client import OffshelfError, TransportError

    try:
        yield
    except TransportError:
        names = ", ".join(job.id for job in jobs)
        typer.echo(f"jobs {names} go on without this command", err=True)
        raise
    except BaseException:
        for job in jobs:
            with suppress(OffshelfError):
                if not job.refresh().status.finished:
                    job.cancel()
                    typer.echo(f"cancelled job {job.id}", err=True)
        raise

"""A protocol's figures for people: what each split gave, and our rows among the papers'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.commands.output import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from offshelf.schemas.heads import PublishedRow as Ours
    from offshelf_client import ProtocolReport, PublishedRow

    Row = PublishedRow | Ours

OURS = "this run"


def splits_table(reports: Sequence[ProtocolReport], heads: Sequence[str]) -> str:
    """A row for each split: how many samples, every figure in per cent, and the head."""
    metrics = list(reports[0].figures)
    rows = [
        (
            report.split,
            report.trained,
            report.tested,
            *(f"{100 * report.figures[metric]:.2f}" for metric in metrics),
            head,
        )
        for report, head in zip(reports, heads, strict=True)
    ]
    return table(("split", "trained", "tested", *metrics, "head"), rows)


def published_table(rows: Iterable[Row]) -> str:
    """Tables of rows, one a metric; ours has a mark. Metrics are never mixed."""
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(row)
    return "\n\n".join(
        table(("", metric, "per cent", "source"), [_cells(row) for row in found])
        for metric, found in by_metric.items()
    )


def value_of(row: Row) -> str:
    """`86.91 +- 0.7`, as papers print it."""
    deviation = "" if row.deviation is None else f" +- {round(row.deviation, 2):g}"
    return f"{row.value:.2f}{deviation}"


def _cells(row: Row) -> tuple[str, str, str, str]:
    note = f" ({row.note})" if row.note else ""
    return ">" if row.source == OURS else "", row.method + note, value_of(row), row.source

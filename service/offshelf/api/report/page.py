"""The report as one HTML page: style, plots and pictures are in it, so it can be kept and sent."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from offshelf.api.report import confusions, plots
from offshelf.api.report.thumbnails import thumbnails
from offshelf.schemas.reports import ClassTest, LabelTest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.api.report.reading import Reported
    from offshelf.datasets.reading import ImageReader
    from offshelf.engine.decode import Limits
    from offshelf.schemas.heads import Head, PublishedRow
    from offshelf.schemas.reports import HeadReport, LabelExtremes, LowShotCurve

OURS: Final = "this run"
# Pictures of so many classes where images may have many labels, and so many of each kind.
LABELS_SHOWN: Final = 20
SAMPLES_SHOWN: Final = 4
# A longer table of classes scrolls.
LONG_TABLE: Final = 40
NOTHING: Final = "\N{EN DASH}"
METRICS: Final = {
    "accuracy": "Accuracy",
    "mean_class_accuracy": "Mean per-class accuracy",
    "map_11pt": "mAP, 11 points",
    "map_all_point": "mAP, all points",
}


def render(reported: Reported, images: ImageReader, limits: Limits) -> str:
    """The page of a report; `images` gives the pictures of samples."""
    report = reported.report
    extremes = _shown_extremes(report)
    found = thumbnails(images, reported.dataset, _pictured(report, extremes), limits)
    return str(
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            head=report.head,
            test=report.test,
            many=report.head.multi_label,
            created=datetime.fromtimestamp(report.head.created_s, UTC),
            tables=_tables(report.head),
            options=_options(report.head),
            thumbnails=found,
            extremes=extremes,
            samples_shown=SAMPLES_SHOWN,
            labels_shown=LABELS_SHOWN,
            long_table=LONG_TABLE,
            metrics=METRICS,
            ours=OURS,
            top_k_note=_top_k_note(report),
            script_hash=_script_hash(),
            **_plots(report),
        )
    )


def content_policy() -> str:
    """What a browser may do with the page: show it, and run its one script."""
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src '{_script_hash()}'; base-uri 'none'; form-action 'none'"
    )


def _plots(report: HeadReport) -> dict[str, Any]:
    drawn: dict[str, Any] = {"matrix": None, "pairs": [], "reliability": None}
    test = report.test
    if isinstance(test, ClassTest):
        counts = np.array(test.confusion, np.int64)
        names = [row.name for row in test.classes]
        drawn["matrix"] = confusions.heat_map(counts, names)
        drawn["pairs"] = confusions.pairs(counts, names)
    if report.reliability is not None:
        of_labels = isinstance(test, LabelTest)
        drawn["reliability"] = plots.reliability_diagram(
            report.reliability,
            "Probability of a label, %" if of_labels else "Probability of the predicted class, %",
            "Share that is positive, %" if of_labels else "Accuracy, %",
        )
    drawn["low_shot"] = _low_shot(report)
    drawn["choice"] = _choice(report.head)
    return drawn


def _top_k_note(report: HeadReport) -> str:
    """The ones between the first and the last, which stand on their own."""
    rows = report.test.top_k[1:-1] if isinstance(report.test, ClassTest) else []
    return ", ".join(f"top {row.k}: {_percent(row.accuracy)} %" for row in rows)


def _low_shot(report: HeadReport) -> Markup | None:
    if report.low_shot is None:
        return None
    metric = _first_metric(report, report.low_shot)
    points = [
        plots.Point(point.shots, found.mean, found.deviation, tuple(found.values))
        for point in report.low_shot.points
        for found in [point.figures[metric]]
    ]
    full = getattr(report.test, metric, None)
    return plots.curve(
        points,
        f"Low-shot curve: {METRICS[metric]} by training images a class",
        ("Training images a class", f"{METRICS[metric]}, %"),
        level=None if full is None else (full, "all training images"),
        at_points=True,
    )


def _first_metric(report: HeadReport, curve: LowShotCurve) -> str:
    """The protocol's first figure, where the curve has it."""
    known = curve.points[0].figures
    protocol = report.head.protocol
    wanted = [] if protocol is None else [name for name in protocol.figures if name in known]
    return [*wanted, *known][0]


def _choice(head: Head) -> Markup | None:
    choice = head.choice
    if choice is None:
        return None
    known = [(p.C, p.mean, p.deviation) for p in choice.path if p.mean is not None]
    if not known:
        return None
    name = METRICS.get(choice.metric, choice.metric)
    return plots.curve(
        [plots.Point(*row) for row in known],
        f"Choice of C: {name} of held-out images",
        ("C", f"{name} ({choice.held_out}), %"),
        chosen=None if choice.by_class else head.C,
    )


def _options(head: Head) -> dict[str, Any]:
    """What was asked for of the training, as far as it is not the usual."""
    if head.learning is None:
        return {}
    given = head.learning.model_dump(exclude_defaults=True, exclude={"kind", "C"})
    return {name.replace("_", " "): value for name, value in given.items()}


def _tables(head: Head) -> dict[str, list[PublishedRow]]:
    """The protocol's rows by metric: figures of two metrics do not compare.

    Where a metric has published rows, one that has none but ours is left out.
    """
    found: dict[str, list[PublishedRow]] = {}
    for row in head.protocol.table if head.protocol else []:
        found.setdefault(row.metric, []).append(row)
    beside = {metric: rows for metric, rows in found.items() if len(rows) > 1}
    return beside or found


def _shown_extremes(report: HeadReport) -> list[tuple[LabelExtremes, float]]:
    """The classes with the lowest AP, each with it."""
    if not isinstance(report.test, LabelTest):
        return []
    pairs = zip(report.test.extremes, report.test.labels, strict=True)
    known = [(found, row.ap_all_point) for found, row in pairs if row.ap_all_point is not None]
    return sorted(known, key=lambda pair: pair[1])[:LABELS_SHOWN]


def _pictured(report: HeadReport, extremes: Sequence[tuple[LabelExtremes, float]]) -> list[int]:
    misses = report.test.hardest if isinstance(report.test, ClassTest) else []
    ranked = [
        sample
        for found, _ in extremes
        for side in (found.worst_positives, found.best_negatives)
        for sample in side[:SAMPLES_SHOWN]
    ]
    return [sample.number for sample in (*misses, *ranked)]


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("offshelf.api.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": _percent, "name_of": lambda metric: METRICS.get(metric, metric)}
    made.globals |= {"style": _source(made, "style.css"), "script": _source(made, "sort.js")}
    return made


def _source(environment: Environment, name: str) -> Markup:
    """A file of ours as it is."""
    assert environment.loader is not None  # noqa: S101 - it was just made with one
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704 - our own file


@cache
def _script_hash() -> str:
    digest = hashlib.sha256(str(_environment().globals["script"]).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _percent(fraction: float | None, digits: int = 1) -> str:
    return NOTHING if fraction is None else f"{100 * fraction:.{digits}f}"

"""How a head did on its test, for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

from offshelf.commands.output import percent, table

if TYPE_CHECKING:
    from offshelf_client import Evaluation, LowShot, LowShotCurve

# Of each list: the rest is in the page and in the JSON.
MOST_ROWS: Final = 10
# Where probabilities are from.
BY: Final = {
    "own": "uncalibrated",
    "temperature": "calibrated by temperature",
    "platt": "calibrated by platt",
}


def shots_option(text: str | None) -> LowShot | None:
    """`1,2,4` as the SDK has it; BadParameter for anything else."""
    from offshelf_client import LowShot

    if text is None:
        return None
    try:
        shots = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            "numbers with commas between: 1,2,4,8", param_hint="--low-shot"
        ) from None
    return LowShot(shots)


def as_json_text(evaluation: Evaluation) -> str:
    """All of it."""
    data: dict[str, Any] = asdict(evaluation)
    if evaluation.confusion is not None:
        data["confusion"] = evaluation.confusion.tolist()
    return json.dumps(data)


def summary(evaluation: Evaluation) -> str:
    """The figures, and where the head is worst."""
    parts = [_figures(evaluation), _worst_classes(evaluation), _misses(evaluation)]
    if evaluation.low_shot is not None:
        parts.append(_low_shot(evaluation.low_shot))
    return "\n\n".join(part for part in parts if part)


def _figures(evaluation: Evaluation) -> str:
    if evaluation.test_missing:
        return f"no test figures: {evaluation.test_missing}"
    rows: list[tuple[str, object]] = [("test images", evaluation.images)]
    if evaluation.unscored:
        rows.append(("without features", evaluation.unscored))
    if evaluation.accuracy is None:
        rows += [
            ("mAP, 11 points", percent(evaluation.map_11pt)),
            ("mAP, all points", percent(evaluation.map_all_point)),
        ]
    else:
        low, high = evaluation.interval or (None, None)
        span = f"{percent(low)} to {percent(high)}"
        rows += [
            ("accuracy", percent(evaluation.accuracy)),
            ("95 % interval", span),
            ("mean of classes", percent(evaluation.mean_class_accuracy)),
            *((f"top {k}", percent(value)) for k, value in evaluation.top_k.items() if k > 1),
        ]
    if evaluation.reliability is not None:
        told = f"calibration error (ECE), {BY.get(by := evaluation.reliability.by, by)}"
        rows.append((told, percent(evaluation.reliability.ece)))
    return table(("figure", ""), rows)


def _worst_classes(evaluation: Evaluation) -> str:
    if evaluation.labels:
        known = [row for row in evaluation.labels if row.ap_all_point is not None]
        known.sort(key=lambda row: row.ap_all_point or 0.0)
        return table(
            ("lowest AP", "positives", "AP, 11 points", "AP, all points"),
            [
                (row.name, row.positives, percent(row.ap_11pt), percent(row.ap_all_point))
                for row in known[:MOST_ROWS]
            ],
        )
    worst = sorted(
        (row for row in evaluation.classes if row.f1 is not None), key=lambda r: r.f1 or 0
    )
    if not worst:
        return ""
    header = ("lowest F1", "images", "recall", "precision", "F1", "most taken for")
    return table(
        header,
        [
            (
                row.name,
                row.images,
                percent(row.recall),
                percent(row.precision),
                percent(row.f1),
                row.confused_with or "",
            )
            for row in worst[:MOST_ROWS]
        ],
    )


def _misses(evaluation: Evaluation) -> str:
    if not evaluation.hardest:
        return ""
    return table(
        ("hardest errors", "class", "taken for", "margin"),
        [
            (miss.path or f"sample {miss.number}", miss.truth, miss.predicted, f"{miss.margin:.2f}")
            for miss in evaluation.hardest[:MOST_ROWS]
        ],
    )


def _low_shot(curve: LowShotCurve) -> str:
    metrics = list(curve.points[0].figures)
    rows = []
    for point in curve.points:
        figures = []
        for metric in metrics:
            found = point.figures[metric]
            spread = "" if found.deviation is None else f" +- {100 * found.deviation:.1f}"
            figures.append(f"{100 * found.mean:.1f}{spread}")
        rows.append((point.shots, *figures))
    return table(("images a class", *metrics), rows)

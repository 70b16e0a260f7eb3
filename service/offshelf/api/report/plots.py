"""The plots of a report: curves with their spread, and the reliability diagram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from offshelf.api.report.svg import Axis, Drawing, frame, number, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from offshelf.schemas.reports import Reliability

WIDTH: Final = 640
HEIGHT: Final = 340
LEFT: Final = 62
RIGHT: Final = 20
TOP: Final = 14
BOTTOM: Final = 52
CAP_PX: Final = 4
# Of the reliability diagram: its square, and the histogram under it.
SQUARE: Final = 300
HISTOGRAM: Final = 64
MOST_TICKS: Final = 9


@dataclass(frozen=True, slots=True)
class Point:
    """A mean of fractions at `x`, its standard deviation, and the single values behind it."""

    x: float
    mean: float
    deviation: float | None = None
    values: tuple[float, ...] = ()


def curve(
    points: Sequence[Point],
    title: str,
    names: tuple[str, str],
    *,
    level: tuple[float, str] | None = None,
    chosen: float | None = None,
    at_points: bool = False,
) -> Markup:
    """Means in per cent over a logarithmic axis, with bars of one standard deviation.

    `level` is a value with its name, drawn as a line across. `chosen` marks the point at that x.
    With `at_points` the ticks stand at the points, else at powers of ten.
    """
    drawing = Drawing(WIDTH, HEIGHT, title, "plot")
    xs = [point.x for point in points]
    x = _log_axis(min(xs), max(xs))
    y = _percent_axis(points, [] if level is None else [level[0]])
    marks = [(value, f"{value:g}") for value in (_thinned(xs) if at_points else _powers(x))]
    rows = [(value / 100, f"{value:g}") for value in ticks(100 * y.low, 100 * y.high)]
    frame(drawing, x, y, marks, rows, names)
    if level is not None:
        drawing.add("line", "level", x1=x.start, x2=x.end, y1=y.at(level[0]), y2=y.at(level[0]))
        below = y.at(level[0]) + (15 if y.at(level[0]) < HEIGHT / 2 else -7)
        drawing.text(level[1], x.start + 6, below, "tick")
    _draw_curve(drawing, x, y, points, chosen)
    return drawing.markup()


def _draw_curve(
    drawing: Drawing, x: Axis, y: Axis, points: Sequence[Point], chosen: float | None
) -> None:
    line = " ".join(f"{number(x.at(p.x))},{number(y.at(p.mean))}" for p in points)
    drawing.add("polyline", "line", points=line)
    for point in points:
        at = x.at(point.x)
        for value in point.values:
            drawing.add("circle", "faint", cx=at, cy=y.at(value), r=2.2)
        if point.deviation is not None:
            _bar(drawing, at, *(y.at(point.mean + s * point.deviation) for s in (-1, 1)))
        spread = "" if point.deviation is None else f" ± {100 * point.deviation:.2f}"
        hint = f"{point.x:g}: {100 * point.mean:.2f}{spread}"
        drawing.add("circle", "dot", hint, cx=at, cy=y.at(point.mean), r=3.6)
        if chosen is not None and math.isclose(point.x, chosen, rel_tol=1e-9):
            drawing.add("circle", "ring", cx=at, cy=y.at(point.mean), r=8)


def _bar(drawing: Drawing, at: float, low: float, high: float) -> None:
    drawing.add("line", "bar", x1=at, x2=at, y1=low, y2=high)
    for end in (low, high):
        drawing.add("line", "bar", x1=at - CAP_PX, x2=at + CAP_PX, y1=end, y2=end)


def _log_axis(low: float, high: float) -> Axis:
    """With room beside the first and the last point; one point alone stands in the middle."""
    room = 1.15 if high > low else 3.0
    return Axis(low / room, high * room, LEFT, WIDTH - RIGHT, log=True)


def _percent_axis(points: Sequence[Point], levels: Sequence[float]) -> Axis:
    """Around all that is drawn, inside 0 to 100 where the values are."""
    around = [
        value
        for point in points
        for value in (
            point.mean - (point.deviation or 0),
            point.mean + (point.deviation or 0),
            *point.values,
        )
    ]
    low, high = min([*around, *levels]), max([*around, *levels])
    room = max(0.04 * (high - low), 0.004)
    low, high = max(min(0.0, low), low - room), min(max(1.0, high), high + room)
    if high - low < 1e-3:
        low, high = low - 0.005, high + 0.005
    return Axis(low, high, HEIGHT - BOTTOM, TOP)


def _thinned(xs: Sequence[float]) -> list[float]:
    """Every second, third, ... where labels would touch."""
    step = -(-len(xs) // MOST_TICKS)
    return list(xs[::step])


def _powers(x: Axis) -> list[float]:
    first, last = math.ceil(math.log10(x.low)), math.floor(math.log10(x.high))
    step = max(1, -(-(last - first + 1) // MOST_TICKS))
    found = [10.0**n for n in range(first, last + 1, step)]
    return found or [math.sqrt(x.low * x.high)]


def reliability_diagram(found: Reliability, confidence: str, accuracy: str) -> Markup:
    """Bars of the accuracy in each bin, its gap to the confidence, and how many are in the bin."""
    drawing = Drawing(
        LEFT + SQUARE + RIGHT,
        TOP + SQUARE + HISTOGRAM + BOTTOM + 14,
        "Reliability diagram",
        "plot square",
    )
    x = Axis(0, 1, LEFT, LEFT + SQUARE)
    y = Axis(0, 1, TOP + SQUARE, TOP)
    fifths = [(value / 5, f"{20 * value}") for value in range(6)]
    for value, label in fifths:
        drawing.add("line", "grid", x1=x.start, x2=x.end, y1=y.at(value), y2=y.at(value))
        drawing.text(label, x.start - 8, y.at(value), "tick end middle")
    for row in found.bins:
        if row.accuracy is None or row.confidence is None:
            continue
        left, wide = x.at(row.low) + 0.75, x.at(row.high) - x.at(row.low) - 1.5
        hint = (
            f"{100 * row.low:.0f} to {100 * row.high:.0f} %: {row.count}, confidence "
            f"{100 * row.confidence:.1f}, accuracy {100 * row.accuracy:.1f}"
        )
        share = y.at(0) - y.at(row.accuracy)
        drawing.add("rect", "right", hint, x=left, y=y.at(row.accuracy), width=wide, height=share)
        top, low = sorted((y.at(row.accuracy), y.at(row.confidence)))
        drawing.add("rect", "gap", hint, x=left, y=top, width=wide, height=low - top)
    drawing.add("line", "level", x1=x.at(0), y1=y.at(0), x2=x.at(1), y2=y.at(1))
    drawing.add("line", "axis", x1=x.start, x2=x.end, y1=y.start, y2=y.start)
    middle = (y.start + y.end) / 2
    drawing.text(accuracy, 0, 0, "name centre", transform=f"translate(13 {middle}) rotate(-90)")
    _histogram(drawing, x, found)
    for value, label in fifths:
        drawing.text(label, x.at(value), TOP + SQUARE + HISTOGRAM + 32, "tick centre")
    drawing.text(confidence, x.at(0.5), TOP + SQUARE + HISTOGRAM + 53, "name centre")
    return drawing.markup()


def _histogram(drawing: Drawing, x: Axis, found: Reliability) -> None:
    most = max(1, *(row.count for row in found.bins))
    y = Axis(0, most, TOP + SQUARE + 14 + HISTOGRAM, TOP + SQUARE + 14)
    for row in found.bins:
        left, wide = x.at(row.low) + 0.75, x.at(row.high) - x.at(row.low) - 1.5
        tall = y.at(0) - y.at(row.count)
        drawing.add(
            "rect", "count", f"{row.count}", x=left, y=y.at(row.count), width=wide, height=tall
        )
    drawing.add("line", "axis", x1=x.start, x2=x.end, y1=y.start, y2=y.start)
    drawing.text(f"{most}", x.start - 8, y.at(most) + 4, "tick end middle")
    drawing.text("0", x.start - 8, y.at(0), "tick end middle")

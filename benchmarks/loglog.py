"""Lines on logarithmic axes as an SVG, without a drawing library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDTH: Final = 300
HEIGHT: Final = 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 26, 44
LEGEND: Final = 22
COLOURS: Final = ("#1b6ca8", "#1b6ca8", "#c1440e", "#c1440e")
DASHES: Final = ("", "5 4", "", "5 4")


@dataclass(frozen=True)
class Line:
    """Points above 0, and what they are."""

    name: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Panel:
    """Lines on one pair of axes."""

    x_name: str
    y_name: str
    lines: list[Line]


def draw(panels: list[Panel]) -> str:
    """Panels beside each other on the same vertical axis, the lines of the first in a legend.

    Lines are drawn in pairs of a colour, the second of each dashed.
    """
    values = [y for panel in panels for line in panel.lines for y in line.y]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT + LEGEND}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * WIDTH},0)">')
        parts += _panel(panel, low, max(high, low + 1))
        parts.append("</g>")
    parts += _legend(panels[0].lines, WIDTH * len(panels) / len(panels[0].lines))
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, low: int, high: int) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    xs = [x for line in panel.lines for x in line.x]
    across = _scale(math.log10(min(xs)), math.log10(max(xs)), LEFT, right)
    up = _scale(low, high, bottom, TOP)
    for power in range(low, high + 1):
        y = up(10.0**power)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>'
        yield _text(LEFT - 6, y + 4, f"{10.0**power:g}", "end")
    for x in sorted(set(xs)):
        yield f'<path d="M{across(x):.1f} {bottom}v4" stroke="black"/>'
        yield _text(across(x), bottom + 16, f"{x:g}", "middle")
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="black" fill="none"/>'
    yield _text((LEFT + right) / 2, bottom + 34, panel.x_name, "middle")
    yield _text(LEFT - 40, TOP - 12, panel.y_name, "start")
    for line, colour, dash in zip(panel.lines, COLOURS, DASHES, strict=False):
        points = [(across(x), up(y)) for x, y in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" {_stroke(colour, dash)}/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)


def _legend(lines: list[Line], apart: float) -> Iterator[str]:
    y = HEIGHT + LEGEND / 2 - 4
    for number, (line, colour, dash) in enumerate(zip(lines, COLOURS, DASHES, strict=False)):
        x = 20 + number * apart
        yield f'<path d="M{x:.1f} {y}h26" {_stroke(colour, dash)}/>'
        yield _text(x + 32, y + 4, line.name, "start")


def _stroke(colour: str, dash: str) -> str:
    return f'stroke="{colour}" stroke-width="2" fill="none" stroke-dasharray="{dash}"'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From a value, of which the logarithm lies between `low` and `high`, to a place."""
    return lambda value: start + (end - start) * (math.log10(value) - low) / (high - low)


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'

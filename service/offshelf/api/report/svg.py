"""Drawing: SVG elements, escaped by ElementTree, and the frame that every plot stands in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

# Steps of an axis are one of these times a power of ten.
NICE_STEPS: Final = (1, 2, 2.5, 5, 10)
TICK_PX: Final = 5
DIGITS: Final = 2


class Drawing:
    """An SVG image of a size in its own pixels; classes of the page's style give the colours."""

    def __init__(self, width: float, height: float, title: str, kind: str) -> None:
        self.root = ET.Element(
            "svg",
            {"viewBox": f"0 0 {number(width)} {number(height)}", "role": "img", "class": kind},
        )
        ET.SubElement(self.root, "title").text = title

    def add(self, tag: str, css: str = "", hint: str = "", **attributes: float | str) -> None:
        """An element; `hint` is shown where the pointer rests on it."""
        self._element(tag, css, attributes).extend(_titles(hint))

    def text(
        self, content: str, x: float, y: float, css: str = "", hint: str = "", **more: float | str
    ) -> None:
        """Text with its anchor at (x, y)."""
        element = self._element("text", css, {"x": x, "y": y, **more})
        element.text = content
        element.extend(_titles(hint))

    def markup(self) -> Markup:
        """The image for a page; all that is not ours in it is escaped."""
        return Markup(ET.tostring(self.root, encoding="unicode"))  # noqa: S704 - escaped by ET

    def _element(self, tag: str, css: str, attributes: dict[str, float | str]) -> ET.Element:
        named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        texts = {name: v if isinstance(v, str) else number(v) for name, v in named.items()}
        return ET.SubElement(self.root, tag, {**({"class": css} if css else {}), **texts})


def _titles(hint: str) -> list[ET.Element]:
    if not hint:
        return []
    title = ET.Element("title")
    title.text = hint
    return [title]


def number(value: float) -> str:
    """A coordinate, as short as it may be."""
    return f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` along the pixels from `start` to `end`; `log` is of base 10."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands."""
        low, high, here = ((math.log10(v) if self.log else v) for v in (self.low, self.high, value))
        share = (here - low) / (high - low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from `low` to `high`, `most` or fewer."""
    rough = (high - low) / max(1, most - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in NICE_STEPS if nice * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def frame(
    drawing: Drawing,
    x: Axis,
    y: Axis,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    names: tuple[str, str],
) -> None:
    """The grid, ticks and names of two axes; `y` runs upwards, from its start to its end."""
    for value, label in y_ticks:
        drawing.add("line", "grid", x1=x.start, x2=x.end, y1=y.at(value), y2=y.at(value))
        drawing.text(label, x.start - 8, y.at(value), "tick end middle")
    for value, label in x_ticks:
        drawing.add(
            "line", "axis", x1=x.at(value), x2=x.at(value), y1=y.start, y2=y.start + TICK_PX
        )
        drawing.text(label, x.at(value), y.start + 19, "tick centre")
    drawing.add("line", "axis", x1=x.start, x2=x.end, y1=y.start, y2=y.start)
    drawing.text(names[0], (x.start + x.end) / 2, y.start + 40, "name centre")
    middle = (y.start + y.end) / 2
    drawing.text(names[1], 0, 0, "name centre", transform=f"translate(13 {middle:.1f}) rotate(-90)")

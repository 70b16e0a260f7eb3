"""The objects of a VOC annotation, read so that a hostile file can do no harm.

A document type is refused before anything of it is read: without one there are no entities to
expand and nothing outside to fetch. An object that is not as it should be is an error with the
file's name, never a guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Never
from xml.etree import ElementTree as ET

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from offshelf.core.boxes import Box

MAX_BYTES: Final = 4 << 20  # the largest official one has some 30 kB


@dataclass(frozen=True, slots=True)
class VocObject:
    """An annotated object. `actions` are those that its annotation says it does."""

    name: str
    box: Box
    difficult: bool
    truncated: bool
    actions: frozenset[str] = frozenset()


def read_objects(file: Path) -> tuple[VocObject, ...]:
    """The objects in the file's order, from which lists of people count, starting with 1.

    Boxes are made of the devkit's: pixel columns xmin to xmax, 1 the first and both inside, become
    the edges xmin - 1 and xmax. InvalidParameter for a file that is missing, too large or broken.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidParameter(f"no annotation {file.name}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise InvalidParameter(f"{file.name} is longer than {MAX_BYTES} bytes")
    parser = ET.XMLParser(target=_NoDocumentType())  # noqa: S314  # see _NoDocumentType
    try:
        root = ET.fromstring(data, parser)  # noqa: S314  # that parser
        return tuple(_object(element) for element in root.findall("object"))
    except (ET.ParseError, LookupError, ValueError) as error:
        raise InvalidParameter(f"{file.name} is not a readable annotation: {error}") from error


class _NoDocumentType(ET.TreeBuilder):
    """Refuses `<!DOCTYPE ...>`, which is called at its name, before its entities are read."""

    def doctype(self, *_: object) -> Never:
        raise InvalidParameter("an annotation has no document type; this one has")


def _object(element: Element) -> VocObject:
    sides = [_number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    box = (sides[0] - 1, sides[1] - 1, sides[2], sides[3])
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError(f"an object's box is {sides}: it has no size")
    actions = element.iterfind("actions/*")
    return VocObject(
        name=_text(element, "name"),
        box=box,
        difficult=_flag(element, "difficult"),
        truncated=_flag(element, "truncated"),
        actions=frozenset(a.tag for a in actions if _is_one(a.text)),
    )


def _text(element: Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object has no <{path}>")
    return text


def _number(element: Element, path: str) -> float:
    value = float(_text(element, path))
    if not math.isfinite(value):
        raise ValueError(f"an object's <{path}> is {value}")
    return value


def _flag(element: Element, path: str) -> bool:
    """Optional in the format; absent is 0, as in the devkit."""
    return _is_one(element.findtext(path))


def _is_one(text: str | None) -> bool:
    return (text or "").strip() == "1"

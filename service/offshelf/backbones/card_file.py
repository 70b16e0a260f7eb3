"""A card file: an operator's own network, told in `<name>.toml` beside its weights.

TOML, because people write it by hand: it has comments, and Python reads it without a library.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

SUFFIX: Final = ".toml"
_MAX_CLASSES: Final = 1_000_000
_MAX_BYTES: Final = 4 << 20  # of a card file and of a file of class names

Three: TypeAlias = tuple[float, float, float]
Pixels: TypeAlias = Annotated[int, Field(gt=0, le=4096)]


class BadCard(Exception):
    """A card file that makes no backbone; the message says file, place, and what would be right."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"the card file {path}: {message}")
        self.path = path


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PreprocessingTable(_Strict):
    """What of the architecture's preprocessing is otherwise for these weights."""

    resize: Pixels | None = None
    crop: Pixels | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    mean: Three | None = None
    std: Three | None = None
    channels: Literal["rgb", "bgr"] | None = None

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _three_numbers(cls, value: object) -> object:
        numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
        if not numbers or len(value) != 3:  # type: ignore[arg-type]  # a list by now
            raise ValueError("should be three numbers, one a channel (R, G, B) of a [0, 1] image")
        return tuple(float(v) for v in value)  # type: ignore[attr-defined]

    @field_validator("std")
    @classmethod
    def _above_zero(cls, value: Three | None) -> Three | None:
        if value is not None and min(value) <= 0:
            raise ValueError("should be above zero in every channel")
        return value


class CardFile(_Strict):
    """The fields of a card file; docs/weights.md says what each is for."""

    architecture: str
    weights: str
    classes: int | tuple[str, ...] | None = None
    classes_file: str | None = None
    headless: bool = False
    key: str = ""
    prefix: str = ""
    drop: tuple[str, ...] = ()
    licence: str = ""
    paper: str = ""
    preprocessing: PreprocessingTable = PreprocessingTable()

    @field_validator("classes", mode="before")
    @classmethod
    def _number_or_names(cls, value: object) -> object:
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            return tuple(value)
        if type(value) is not int or not 0 < value <= _MAX_CLASSES:
            raise ValueError("should be a number above zero, or a list of names")
        return value

    @field_validator("drop", mode="before")
    @classmethod
    def _list_of_texts(cls, value: object) -> object:
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise ValueError('should be a list of beginnings of names, such as ["projection."]')
        return tuple(value)


def read_card_file(path: Path) -> CardFile:
    """The fields of a card file, each of the right kind; BadCard says what is wrong where."""
    text = ""
    try:
        text = read_text(path)
        return CardFile(**tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadCard(path, f"is not TOML: {error}") from error
    except ValidationError as error:
        wrong = [_sentence(detail, text) for detail in error.errors()]
        raise BadCard(path, "; ".join(wrong)) from error
    except (OSError, ValueError) as error:
        raise BadCard(path, f"cannot be read: {error}") from error


def wrong_field(path: Path, field: str, message: str) -> BadCard:
    """The error for a field whose value cannot stand, though it is of the right kind."""
    try:
        text = read_text(path)
    except (OSError, ValueError):
        text = ""
    return BadCard(path, f"{_placed((field,), text)} {message}")


def read_text(path: Path) -> str:
    """The text of a small file; ValueError where it is not small or not UTF-8."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES} bytes")
    return path.read_text(encoding="utf-8")


def _sentence(detail: ErrorDetails, text: str) -> str:
    """One thing that is wrong, with its place and what would be right."""
    where = tuple(str(part) for part in detail["loc"] if isinstance(part, str))
    if detail["type"] == "missing":
        return f"the field {where[-1]!r} is missing"
    if detail["type"] == "extra_forbidden":
        known = list((PreprocessingTable if len(where) > 1 else CardFile).model_fields)
        return f"{_placed(where, text)} is unknown; {_like(where[-1], known)}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{_placed(where, text)} {message[:1].lower()}{message[1:]}"


def _like(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"


def _placed(where: tuple[str, ...], text: str) -> str:
    """`line 3, field 'classes'`; without the line where the field is not written out."""
    name = ".".join(where)
    wanted = re.compile(rf"\s*(?:{re.escape(name)}|{re.escape(where[-1])})\s*=")
    found = (n for n, line in enumerate(text.splitlines(), 1) if wanted.match(line))
    line = next(found, None)
    return f"field {name!r}" if line is None else f"line {line}, field {name!r}"

"""What a feature is: the FeatureSpec, and the fingerprint that stands for it everywhere."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, TypeAlias, get_args

from offshelf.errors import InvalidParameter

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
Merge: TypeAlias = Literal["mean", "concat", "stack"]
Channels: TypeAlias = Literal["rgb", "bgr"]
Precision: TypeAlias = Literal["float32"]

MERGES: Final = get_args(Merge)

# The recipes that turn bytes into pixels. They are ours, so they carry our own version: raise
# it when a change here (or in Pillow) moves a pixel; `tests/conformance` pins their output.
DECODER: Final = "pillow-rgb/1"
RESIZER: Final = "pillow-antialias/1"

# Fields that came after the first fingerprints, each with what held for all until then: with
# that value they stay out of the canonical text, so that no fingerprint changes.
_LATER: Final = {"merge": "mean", "architecture": ""}
_LATER_PREPROCESSING: Final = {"channels": "rgb"}

_GRID = re.compile(r"(?:grid|pyramid):([1-9][0-9]?(?:,[1-9][0-9]?)*)(?::(avg|max))?")
_ALIGN = re.compile(r"align:([1-9][0-9]?)")
MAX_LEVELS: Final = 6


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pixels become network input; it belongs to the weights.

    `resize` and `crop` are in pixels; `mean` and `std` are per RGB channel of a [0, 1] image.
    `channels` is the order in which the network wants the normalised channels.
    """

    resize: int
    crop: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Channels = "rgb"


@dataclass(frozen=True, slots=True)
class Pooling:
    """What is done to a (C, H, W) map before it is handed out.

    `none` keeps the map; `avg` and `max` are global, (C,); `grid:N` is the adaptive maximum over
    N x N cells, flattened to (C*N*N,) with the cells innermost, and `grid:N:avg` the mean.
    `pyramid:N1,N2,...` is such grids one after the other (He et al., ECCV 2014, section 2.2).
    `align:N` is RoIAlign, of boxes on a map alone (He et al., ICCV 2017).
    """

    kind: Literal["none", "avg", "max", "align"]
    cells: int = 1
    pyramid: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Pooling:
        """Read `none`, `avg` (or `average`), `max`, `grid:N`, `pyramid:N1,N2`; `:avg`, `:max`."""
        if text in ("none", "avg", "max"):
            return cls(text)  # type: ignore[arg-type]  # the tuple above is the Literal
        if text == "average":
            return cls("avg")
        if aligned := _ALIGN.fullmatch(text):
            return cls("align", int(aligned[1]))
        match = _GRID.fullmatch(text)
        levels = tuple(map(int, match[1].split(","))) if match else ()
        if match is None or not _are_levels(levels, text.startswith("grid")):
            raise InvalidParameter(
                f"pool {text!r} is not one of none, avg, max, grid:N, grid:N:avg, "
                f"pyramid:N1,N2,..., pyramid:N1,N2,...:avg (N from 1 to 99, rising, "
                f"up to {MAX_LEVELS} of them); of boxes on a map also align:N"
            )
        kind: Literal["avg", "max"] = "avg" if match[2] == "avg" else "max"
        return cls(kind, levels[0]) if len(levels) == 1 else cls(kind, pyramid=levels)

    def __str__(self) -> str:
        if self.kind == "align":
            return f"align:{self.cells}"
        if self.levels == (1,):
            return self.kind
        name = "pyramid" if self.pyramid else "grid"
        levels = ",".join(map(str, self.levels))
        return f"{name}:{levels}" + (":avg" if self.kind == "avg" else "")

    @property
    def levels(self) -> tuple[int, ...]:
        """The cells a side of each grid: one of them but for a pyramid."""
        return self.pyramid or (self.cells,)

    @property
    def values(self) -> int:
        """How many numbers it makes of a channel."""
        return sum(level**2 for level in self.levels)


def _are_levels(levels: tuple[int, ...], grid: bool) -> bool:
    """Whether a grid has one level, and a pyramid a few that rise."""
    rising = all(a < b for a, b in itertools.pairwise(levels))
    return len(levels) == 1 if grid else rising and len(levels) <= MAX_LEVELS


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Everything that can change the value of a feature beyond tolerance.

    Engine, device and batch size are recorded beside it, not in it: the conformance suite holds
    them to 1e-5 of a row's norm. `tap` is canonical (`fc7`, `fc7:pre`), never an alias, and
    `weights_digest` is the sha256 of the weight tensors, whatever file they came in. `view`,
    `pooling` and `normalisation` are the canonical texts of `core.view.View`, `Pooling` and
    `core.normalisation.Chain`. `architecture` is the network that a card file names: two may take
    the same tensors and compute otherwise. It is empty where `backbone` says it.
    """

    backbone: str
    weights_digest: str
    tap: str
    view: str
    preprocessing: Preprocessing
    pooling: str = "none"
    normalisation: str = "none"
    precision: Precision = "float32"
    decoder: str = DECODER
    resizer: str = RESIZER
    merge: Merge = "mean"
    architecture: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, nested; tuples become lists."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FeatureSpec:
        """Inverse of `to_dict`; unknown or missing fields raise InvalidParameter."""
        try:
            pre = dict(data["preprocessing"])
            pre["mean"], pre["std"] = tuple(pre["mean"]), tuple(pre["std"])
            return cls(**{**data, "preprocessing": Preprocessing(**pre)})
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidParameter(f"not a FeatureSpec: {error}") from error

    def canonical(self) -> str:
        """Its one JSON text: sorted keys, no spaces."""
        data = _without(asdict(self), _LATER)
        data["preprocessing"] = _without(data["preprocessing"], _LATER_PREPROCESSING)
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def differences(self, other: FeatureSpec) -> list[str]:
        """The fields that differ, each as `field: ours != theirs`."""
        return [
            f"{field.name}: {getattr(self, field.name)} != {getattr(other, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


def _without(data: dict[str, Any], defaults: dict[str, str]) -> dict[str, Any]:
    """The data without the fields that have their default."""
    return {name: value for name, value in data.items() if defaults.get(name) != value}


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise InvalidParameter unless `value` is one of `choices`."""
    if value not in choices:
        raise InvalidParameter(f"{what} {value!r} is not one of {', '.join(choices)}")


def split_tap(tap: str) -> tuple[str, bool]:
    """Split `fc7:pre` into (`fc7`, True) and `fc7` into (`fc7`, False)."""
    name, colon, suffix = tap.partition(":")
    if colon and suffix != "pre":
        raise InvalidParameter(f"tap {tap!r}: the only suffix is ':pre' (before the ReLU)")
    return name, bool(colon)

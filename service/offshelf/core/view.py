"""The grammar of views: how an image becomes network inputs, as one short text.

A view is a name, with parameters after a colon where it has any, and then changes, each after a
plus: `center`, `multi_scale:256,384`, `dense:512+mirror`, `warp+rotate:-10`. Every view has one
canonical text, which stands in the FeatureSpec and so in the fingerprint.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from offshelf.core.spec import Preprocessing

Kind: TypeAlias = Literal[
    "center", "warp", "squash", "five_crop", "ten_crop", "multi_scale", "dense", "maps", "razavian"
]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CHANGES: Final = ("hflip", "vflip", "rotate", "mirror")
EXPLAINED: Final = (
    "center, warp, squash, five_crop, ten_crop, multi_scale:Q1,Q2,..., dense:Q1,Q2,..., "
    "razavian[:DEG], each with any of +hflip, +vflip, +rotate:DEG, +mirror; of boxes also "
    "maps:Q1,Q2,..."
)
MAX_SIDES: Final = 8
MAX_SIDE: Final = 1440  # pixels; squares of it are as large as inputs may be
# Razavian et al. do not say by how much they rotate; this is ours.
RAZAVIAN_DEGREES: Final = 15.0

_SIDES: Final = re.compile(r"[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*")
_DEGREES: Final = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,2})?")
_SIDED: Final = ("multi_scale", "dense", "maps")
_MIRRORED: Final = ("ten_crop", "razavian")
_INPUTS: Final = {"five_crop": 5, "ten_crop": 10, "razavian": 16}


@dataclass(frozen=True, slots=True)
class View:
    """A parsed view. The image is flipped, then rotated, then cut; the cuts are then mirrored.

    `sides` are the short sides of `multi_scale`, `dense` and `maps` in pixels. `degrees` is the
    angle of razavian's rotations, `rotation` that of the image itself, both counter-clockwise.
    `mirror` adds the mirrored copy of every input.
    """

    kind: Kind
    sides: tuple[int, ...] = ()
    degrees: float = 0.0
    hflip: bool = False
    vflip: bool = False
    rotation: float = 0.0
    mirror: bool = False

    @classmethod
    def parse(cls, text: str) -> View:
        """Read a view; InvalidParameter says what would be right. Order of changes is free."""
        # A plus in a query string that nobody escaped arrives as a space.
        head, *changes = text.replace(" ", "+").split("+")
        name, colon, parameters = head.partition(":")
        if name not in KINDS:
            raise _unknown(text, "view", name, KINDS)
        sides, degrees = _parameters(text, name, parameters if colon else None)
        view = cls(name, sides, degrees, **_changes(text, changes))
        if view.mirror and name in _MIRRORED:
            raise InvalidParameter(f"view {text!r}: {name} has the mirrored copies already")
        if view.is_regional and changes:
            raise InvalidParameter(
                f"view {text!r}: {name} takes boxes of the image as it is, so it has no changes"
            )
        return view

    def __str__(self) -> str:
        return "+".join(
            [
                self._head(),
                *(["hflip"] if self.hflip else []),
                *(["vflip"] if self.vflip else []),
                *([f"rotate:{self.rotation:g}"] if self.rotation else []),
                *(["mirror"] if self.mirror else []),
            ]
        )

    def _head(self) -> str:
        if self.sides:
            return f"{self.kind}:{','.join(map(str, self.sides))}"
        return f"razavian:{self.degrees:g}" if self.kind == "razavian" else self.kind

    @property
    def inputs(self) -> int:
        """How many network inputs it makes of an image."""
        return (len(self.sides) or _INPUTS.get(self.kind, 1)) * (2 if self.mirror else 1)

    @property
    def is_dense(self) -> bool:
        """Whether its inputs are whole images of any shape, and not of the network's own size."""
        return self.kind in ("dense", "maps")

    @property
    def is_regional(self) -> bool:
        """Whether it gives a feature of each box, pooled from the maps of the whole image."""
        return self.kind == "maps"

    def check(self, pre: Preprocessing) -> None:
        """InvalidParameter where a scale is too small to cut the network's input from."""
        small = [side for side in self.sides if side < pre.crop]
        if small and self.kind == "multi_scale":
            raise InvalidParameter(
                f"view {self}: side {small[0]} is below the network's input of {pre.crop} pixels"
            )


def canonical_view(text: str) -> str:
    """The one text for a view; raises as `View.parse`."""
    return str(View.parse(text))


def _parameters(text: str, name: str, given: str | None) -> tuple[tuple[int, ...], float]:
    """The short sides and the angle that stand after a view's name."""
    if name in _SIDED:
        return _sides(text, name, given), 0.0
    if name == "razavian":
        degrees = RAZAVIAN_DEGREES if given is None else _angle(text, given)
        if not 0 < degrees < 180:
            raise InvalidParameter(f"view {text!r}: razavian rotates by 0 < DEG < 180 either way")
        return (), degrees
    if given is not None:
        raise InvalidParameter(f"view {text!r}: {name} has no parameters; write {name}")
    return (), 0.0


def _sides(text: str, name: str, given: str | None) -> tuple[int, ...]:
    if given is None or not _SIDES.fullmatch(given):
        raise InvalidParameter(
            f"view {text!r}: {name} needs short sides in pixels, as in {name}:256,384"
        )
    sides = tuple(map(int, given.split(",")))
    if len(sides) > MAX_SIDES or max(sides) > MAX_SIDE or len(set(sides)) < len(sides):
        raise InvalidParameter(
            f"view {text!r}: {name} takes up to {MAX_SIDES} different sides of up to {MAX_SIDE}"
        )
    return sides


def _changes(text: str, given: list[str]) -> dict[str, Any]:
    """The fields that the changes set."""
    found: dict[str, Any] = {}
    for change in given:
        name, colon, angle = change.partition(":")
        if name not in CHANGES:
            raise _unknown(text, "change", name, CHANGES)
        if bool(colon) != (name == "rotate"):
            right = "rotate:DEG" if name == "rotate" else name
            raise InvalidParameter(f"view {text!r}: write +{right}")
        field = "rotation" if name == "rotate" else name
        if field in found:
            raise InvalidParameter(f"view {text!r}: +{name} stands there twice")
        found[field] = _angle(text, angle) if name == "rotate" else True
    return found


def _angle(text: str, given: str) -> float:
    """Degrees from -180 to 180, that end left out."""
    if not _DEGREES.fullmatch(given) or abs(float(given)) > 360:
        raise InvalidParameter(
            f"view {text!r}: an angle is degrees from -360 to 360 with up to two decimals, "
            f"not {given!r}"
        )
    turned = round(float(given) % 360, 2)
    return turned if turned <= 180 else round(turned - 360, 2)


def _unknown(text: str, what: str, name: str, known: tuple[str, ...]) -> InvalidParameter:
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return InvalidParameter(f"view {text!r}: no {what} {name!r}{hint} There are: {EXPLAINED}")

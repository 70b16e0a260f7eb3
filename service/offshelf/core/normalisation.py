"""The grammar of normalisations: a chain of steps, done in the order in which they are written.

`none`, or up to six of these with commas between: `l2`, `power:P` (the signed power
sign(x)|x|^P of every value) and `whiten:<digest>` (a PCA-whitening by the digest it is stored
under). `power:0.5,l2` and `l2,power:2` are the two orders of the literature: Perronnin et al.,
ECCV 2010, and Razavian et al., CVPRW 2014.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from offshelf.errors import InvalidParameter

MAX_STEPS: Final = 6
# Features of up to 1e9 stay finite in float32.
MAX_POWER: Final = 4.0
NONE: Final = "none"

_STEP: Final = re.compile(r"l2|power:([0-9](?:\.[0-9]{1,3})?)|whiten:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `power` is for `power`, `digest` for `whiten`."""

    kind: Literal["l2", "power", "whiten"]
    power: float = 1.0
    digest: str = ""

    def __str__(self) -> str:
        if self.kind == "power":
            return f"power:{self.power:g}"
        return f"whiten:{self.digest}" if self.kind == "whiten" else "l2"


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps in their order; none of them leaves the features as they are."""

    steps: tuple[Step, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Chain:
        """Read `none` or a chain of steps; InvalidParameter says what a step may be."""
        if text == NONE:
            return cls()
        parts = text.split(",")
        if len(parts) > MAX_STEPS:
            raise InvalidParameter(
                f"normalize has {len(parts)} steps and the limit is {MAX_STEPS}: {text!r}"
            )
        return cls(tuple(_step(text, part) for part in parts))

    def __str__(self) -> str:
        return ",".join(map(str, self.steps)) or NONE

    def before_whitening(self) -> list[tuple[str, str]]:
        """Of each whitening its digest, and the chain that comes before it."""
        return [
            (step.digest, str(Chain(self.steps[:place])))
            for place, step in enumerate(self.steps)
            if step.kind == "whiten"
        ]


def canonical_normalisation(text: str) -> str:
    """The one text for a chain; raises as `Chain.parse`."""
    return str(Chain.parse(text))


def _step(text: str, part: str) -> Step:
    match = _STEP.fullmatch(part)
    if match is None:
        raise InvalidParameter(
            f"normalize {text!r}: {part!r} is not one of none (alone), l2, power:P (P from 0 to "
            f"{MAX_POWER:g}, as in power:0.5), whiten:<the 64 hex digits of a transform>"
        )
    if match[2]:
        return Step("whiten", digest=match[2])
    if match[1] is None:
        return Step("l2")
    if float(match[1]) > MAX_POWER:
        raise InvalidParameter(f"normalize {text!r}: P of power:P is from 0 to {MAX_POWER:g}")
    return Step("power", power=float(match[1]))

"""What a tap gives under a view: its shape, how it may be pooled, and how much comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offshelf.core.normalisation import Chain
from offshelf.core.spec import Pooling
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from offshelf.backbones.interface import Kind, Tap
    from offshelf.core.spec import FeatureSpec
    from offshelf.core.view import View
    from offshelf.engine.interface import Output, Resident


@dataclass(frozen=True, slots=True)
class Place:
    """A tap as one view sees it. `shape` is what it gives of one input, at its smallest.

    `kind` is `backbones.interface.Kind`: vector, tokens, map, or other.

    A dense view has maps where the network's own size has vectors, and their size differs from
    image to image.
    """

    tap: str
    shape: tuple[int, ...]
    kind: Kind
    dense: bool
    own_pooling: str
    regional: bool = False

    @classmethod
    def of(cls, resident: Resident, requested: str, view: View) -> Place:
        """The place of a requested tap; raises what `Resident` raises for it."""
        canonical, tap, _, pool = resident.resolve_tap(requested)
        if not view.is_dense:
            return cls(canonical, tap.shape, tap.kind, dense=False, own_pooling=pool)
        if tap.kind in ("other", "tokens"):
            raise InvalidParameter(_not_dense(resident, canonical, tap))
        shape = resident.shape_at(canonical, min(view.sides))
        kind = "map" if len(shape) == 3 else tap.kind
        if view.is_regional and kind != "map":
            raise InvalidParameter(
                f"tap {canonical!r} is no map, even of a whole image: boxes are pooled from maps; "
                "take a tap that is one, or a view of the boxes themselves, such as squash"
            )
        return cls(canonical, shape, kind, True, pool, view.is_regional)

    def pooling(self, asked: str | None) -> str:
        """The canonical pooling. Vectors stay as they are; dense maps are averaged at least."""
        pooling = Pooling.parse(self.own_pooling if asked is None else asked)
        if self.kind == "vector":
            return "none"
        if self.kind == "map" and self.dense and pooling.kind == "none":
            if asked is not None:
                raise InvalidParameter(
                    f"tap {self.tap!r} is a map under a dense view, and its size differs from "
                    "image to image: pool it by avg (what you get if you name no pool), max, "
                    "grid:N or pyramid:N1,N2"
                )
            pooling = Pooling("avg")
        if pooling.kind == "align" and not self.regional:
            raise InvalidParameter(
                f"pool {pooling} is of boxes on a map: take the view maps:Q1,Q2,..., or grid:N"
            )
        if pooling.kind != "none" and not self.regional:
            self._check(pooling)
        return str(pooling)

    def _check(self, pooling: Pooling) -> None:
        """InvalidParameter unless what it gives can be pooled so."""
        if self.kind == "other":
            raise InvalidParameter(
                f"tap {self.tap!r} of shape {self.shape} is neither a map nor tokens, so it cannot "
                "be pooled: take pool 'none'"
            )
        if self.kind == "tokens" and pooling.levels != (1,):
            raise InvalidParameter(
                f"pool {pooling} needs a map, and tap {self.tap!r} is {self.shape[0]} tokens: take "
                "none, avg or max (over all tokens, a class token among them), or a tap that is a "
                "map"
            )
        side = min(self.shape[1:])
        if self.kind == "map" and max(pooling.levels) > side:
            raise InvalidParameter(
                f"pool {pooling} has more cells than tap {self.tap!r} has places ({side} a side)"
            )

    def values(self, output: Output, inputs: int) -> int:
        """How many numbers an output has for one image of so many inputs."""
        pooling = Pooling.parse(output.pooling)
        channels = self.shape[1] if self.kind == "tokens" else self.shape[0]
        one = math.prod(self.shape) if pooling.kind == "none" else channels * pooling.values
        if output.merge == "concat":
            one *= inputs
        if output.whitenings:
            one = output.whitenings[-1].dimensions
        return one * inputs if output.merge == "stack" else one


def _not_dense(resident: Resident, name: str, tap: Tap) -> str:
    """Why a tap that is neither a map nor a vector is refused, and what to take instead."""
    what = (
        f"{tap.shape[0]} tokens"
        if tap.kind == "tokens"
        else f"of shape {tap.shape}, neither a map nor tokens"
    )
    maps = [known.name for known in resident.card.taps if known.is_map]
    advice = f"a tap that is a map ({', '.join(maps)})" if maps else "a tap that is a map"
    return (
        f"tap {name!r} is {what}, and its size would differ from image to image under a dense "
        f"view: take {advice}, or a view of the network's own size, such as center"
    )


def check_whitenings(output: Output, spec: FeatureSpec) -> None:
    """FingerprintMismatch unless each was fitted on exactly what comes to it."""
    before = Chain.parse(output.normalisation).before_whitening()
    for whitening, (_, prefix) in zip(output.whitenings, before, strict=True):
        whitening.check(spec, prefix)

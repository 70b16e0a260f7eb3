"""Backbones as the API lists them, and what workers say of themselves."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import TypeAdapter

from offshelf.schemas.base import Strict

TapKind = Literal["vector", "tokens", "map", "other"]


class TapBody(Strict):
    """A tap as listed by `GET /v1/backbones`.

    `kind` says what its shape is: a `vector` (D,), a `map` (C, H, W), `tokens` (T, D), or `other`,
    which cannot be pooled. `offset` is the centre of the first unit, in input pixels.
    """

    name: str
    shape: list[int]
    stride: int | None
    receptive_field: int | None
    pre: bool
    kind: TapKind
    offset: float | None = None


class VariantBody(Strict):
    """One of the sets of weights that are published for a backbone; `name` asks for it.

    `present`: the worker has the file, or another for the same place.
    """

    name: str
    top1: float | None
    licence: str
    preprocessing: dict[str, Any]
    present: bool


class Residence(Strict):
    """Where a backbone is on a device: `loading` until it can run."""

    worker: str
    host: str
    device: str
    weights: str
    bytes: int
    state: Literal["ready", "loading"]


class ResidentBody(Strict):
    """A backbone on a worker's device, as the worker tells it."""

    backbone: str
    weights: str
    bytes: int = 0
    state: Literal["ready", "loading"] = "ready"


class BackboneBody(Strict):
    """A backbone as listed by `GET /v1/backbones`."""

    name: str
    taps: list[TapBody]
    aliases: dict[str, str]
    preprocessing: dict[str, Any]
    classes: int
    class_names: list[str] = []
    paper: str
    weights: dict[str, Any]
    variants: list[VariantBody] = []
    nbytes: int | None = None
    default: bool = False
    resident: list[Residence] = []


# All backbones of a worker, as one JSON text.
BackboneList: Final = TypeAdapter(list[BackboneBody])


class WorkerBody(Strict):
    """What a live worker says of itself with every heartbeat."""

    id: str
    host: str
    pid: int
    engine: str
    device: str
    ready: bool
    detail: str = ""
    started_s: float
    beat_s: float
    default_backbone: str
    resident: list[ResidentBody] = []
    memory_bytes: int = 0
    images_per_s: float = 0.0
    metrics: str = ""

"""What the registry of heads tells: how two heads compare, and what they are exported as."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from offshelf.schemas.base import Strict

ExportFormat = Literal["safetensors", "python", "onnx", "onnx-full"]


class Naming(Strict):
    """Body of `PUT /v1/heads/{head}/name`."""

    name: Annotated[str, Field(max_length=200, examples=["flowers"])]


class HeadRef(Strict):
    """Which head, in short."""

    id: str
    name: str
    version: int | None


class Difference(Strict):
    """A field that differs: what each head has."""

    field: str
    a: Any
    b: Any


class FigurePair(Strict):
    """One figure of both heads; `difference` is b - a. None where a head has no such figure."""

    side: Literal["train", "test", "protocol"]
    metric: str
    a: float | None
    b: float | None
    difference: float | None


class Significance(Strict):
    """McNemar's exact test on the test samples that both heads scored.

    `a_only` samples only head a has right, `b_only` only b. `p_value` is two-sided: how likely so
    uneven a pair is where neither head is better.
    """

    samples: int
    a_only: int
    b_only: int
    p_value: float


class HeadComparison(Strict):
    """Two heads side by side.

    `fair` says whether their test figures may be set against each other: the same data and split,
    and both tested. `reasons` says why not. Training, options and features may differ: that is
    what is compared.
    """

    a: HeadRef
    b: HeadRef
    fair: bool
    reasons: list[str]
    features: list[Difference]
    training: list[Difference]
    data: list[Difference]
    figures: list[FigurePair]
    significance: Significance | None = None


class ExportRequest(Strict):
    """Body of `POST /v1/heads/{ref}/export`: what a worker is to make."""

    format: Literal["onnx-full"] = "onnx-full"


class ExportJob(Strict):
    """What the job of an export is about; the backbone says which worker can do it."""

    head: str
    format: Literal["onnx-full"]
    backbone: str
    weights: str | None


class ExportRecord(Strict):
    """A file that a worker made of a head.

    `deviation` is the largest difference of its scores from the service's, on the pictures that
    it was tried on.
    """

    format: str
    size: int
    sha256: str
    created_s: float
    deviation: float
    versions: dict[str, str]

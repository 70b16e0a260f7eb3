"""PCA-whitenings that are fitted on feature sets."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from offshelf.schemas.base import Name, Strict

TRANSFORM: Final = "transform"
# Of a whitening: its matrix is in memory wherever it is used.
MAX_DIMENSIONS: Final = 4096


class TransformRequest(Strict):
    """Body of `POST /v1/transforms`: fit a PCA-whitening on the features of a feature set."""

    feature_set: Annotated[str, Field(max_length=80, description="The id of a feature set.")]
    tap: Annotated[
        Name | None, Field(description="One of its taps; may be left out where there is one.")
    ] = None
    dimensions: Annotated[
        int,
        Field(
            gt=0,
            le=MAX_DIMENSIONS,
            description="How many numbers come out: the directions that vary most.",
        ),
    ]
    epsilon: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="Added to every variance.")
    ] = 0.0
    name: Annotated[str, Field(max_length=200)] = ""


class Transform(Strict):
    """A fitted PCA-whitening: x -> matrix @ (x - mean), for features of `spec` and no others.

    `id` is the sha256 of its numbers, `step` what to write into `normalize`. `samples` features
    of `inputs` numbers became `dimensions`, which keep the part `explained` of the variance.
    """

    id: str
    owner: str
    name: str
    step: str
    feature_set: str
    tap: str
    spec: dict[str, Any]
    fingerprint: str
    inputs: int
    dimensions: int
    epsilon: float
    samples: int
    explained: float
    created_s: float
    versions: dict[str, str]

"""Feature requests and their answers."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from offshelf.core.normalisation import canonical_normalisation
from offshelf.core.spec import Merge, Pooling
from offshelf.core.view import View, canonical_view
from offshelf.core.windows import canonical_windows
from offshelf.schemas.base import (
    MAX_CHAIN_CHARS,
    MAX_NAME_CHARS,
    ErrorBody,
    Name,
    Strict,
    WeightsBody,
    canonical,
)

Encoding = Literal["float", "base64"]
# The longest node names of torchvision's graphs have some eighty characters.
TapName = Annotated[str, Field(max_length=128)]
WEIGHTS_PATTERN: Final = r"^(random:[0-9]{1,9}|[A-Za-z0-9_.-]{1,64})$"
ViewText = Annotated[
    str,
    Field(
        max_length=MAX_NAME_CHARS,
        description="How an image becomes network inputs. `center`: the weights' preset; `warp`: "
        "DeCAF's, aspect ignored; `squash`: straight to the input size; `five_crop`; `ten_crop`: "
        "with mirrors; `multi_scale:256,384`: centre crops at short sides; `dense:256,384`: whole "
        "images, the network run convolutionally and its maps pooled; `maps:300,600`: so, a "
        "feature of each box; `razavian` or `razavian:DEG`: 16 crops and rotations. "
        "Changes follow: `+hflip`, `+vflip`, `+rotate:DEG` of the image, `+mirror`: "
        "the mirrored copy of every input as well.",
        examples=["center", "ten_crop", "dense:256,384,512+mirror"],
    ),
    canonical(canonical_view),
]


def _of_whole_images(view: str) -> str:
    if View.parse(view).is_regional:
        raise PydanticCustomError(
            "view",
            "view {view} is of boxes, and features of datasets are of whole images: take "
            "dense:Q1,Q2",
            {"view": view},
        )
    return view


WholeViewText = Annotated[ViewText, AfterValidator(_of_whole_images)]
NormalisationText = Annotated[
    str,
    Field(
        max_length=MAX_CHAIN_CHARS,
        description="`none`, or steps with commas between, in their order: `l2`, `power:P` "
        "(sign(x)|x|^P), `whiten:<id of a transform>`.",
        examples=["none", "l2", "power:0.5,l2"],
    ),
    canonical(canonical_normalisation),
]
PoolText = Annotated[Name, canonical(lambda text: str(Pooling.parse(text)))]
WindowsText = Annotated[
    str,
    Field(
        max_length=MAX_CHAIN_CHARS,
        description="Square windows of every image: `pyramid`: sides of the short side divided by "
        "nine scales, neighbours overlapping by half; `pyramid:1,1.3,2;overlap=0.65`: other scales "
        "and overlap; `stride:SIDE,STEP`: one side in pixels, so many pixels apart.",
        examples=["pyramid", "pyramid:1,1.3,2;overlap=0.65", "stride:224,112"],
    ),
    canonical(canonical_windows),
]
Pixels = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]


def _read_boxes(given: Any) -> Any:
    """Boxes in a form or a query are JSON text."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise PydanticCustomError("json", "not JSON: {why}", {"why": str(error)}) from error


def _check_boxes(boxes: list[list[Box]]) -> list[list[Box]]:
    for image, listed in enumerate(boxes):
        for box in listed:
            if not (box[0] < box[2] and box[1] < box[3]):
                raise PydanticCustomError(
                    "box",
                    "image {image} has the box {box}: left is before right and top before bottom",
                    {"image": image, "box": list(box)},
                )
    return boxes


Box = tuple[Pixels, Pixels, Pixels, Pixels]
BoxLists = Annotated[
    list[list[Box]],
    BeforeValidator(_read_boxes),
    AfterValidator(_check_boxes),
]


class FeatureParams(Strict):
    """Which features are wanted; what every feature request, feature set and head names."""

    backbone: Annotated[
        Name | None,
        Field(description="Name of a backbone; the server's default when left out."),
    ] = None
    weights: Annotated[
        str | None,
        Field(
            pattern=WEIGHTS_PATTERN,
            description="Left out: the card's pinned weights. A name such as `IMAGENET1K_V2`: "
            "other published ones. `random:<seed>`: seeded random ones.",
        ),
    ] = None
    taps: Annotated[
        list[TapName],
        Field(
            min_length=1,
            max_length=32,
            description="Taps, e.g. `fc7`, `fc7:pre`, `conv5`; or any node of the network's graph "
            "as torchvision's `feature_extraction` names it, e.g. `layer3.2.relu_1`.",
        ),
    ] = ["penultimate"]
    view: ViewText = "center"
    pool: Annotated[
        PoolText | None,
        Field(
            description="Of maps: `none`, `avg`, `max`, `grid:N`, `pyramid:1,2,4` (maxima of "
            "cells, means with `:avg`). Left out: the tap's own; `avg` under a `dense` view, "
            "whose maps must be pooled."
        ),
    ] = None
    normalize: NormalisationText = "none"
    merge: Annotated[
        Merge,
        Field(
            description="What becomes of the inputs of a view that makes several: their `mean`, "
            "`concat` (one long vector), or `stack` (an axis of their own, each normalised for "
            "itself; a head sees it flattened)."
        ),
    ] = "mean"


class ImageBody(Strict):
    """An image inside a JSON body."""

    data: Annotated[str, Field(description="The image file's bytes as base64.")]
    name: Annotated[str | None, Field(max_length=1024)] = None


class FeatureOptions(FeatureParams):
    """The parameters of `POST /v1/features`, whatever kind of body carries the images."""

    boxes: Annotated[
        BoxLists | None,
        Field(
            description="A feature of each box and not of the image: for every image, in order, a "
            "list of [left, top, right, bottom] in pixels of the upright image. In a form or a "
            "query: JSON text."
        ),
    ] = None
    windows: Annotated[
        WindowsText | None, Field(description="A feature of each of these windows; not with boxes.")
    ] = None

    encoding: Annotated[
        Encoding,
        Field(description="How a JSON answer holds numbers: lists, or little-endian float32."),
    ] = "float"

    @model_validator(mode="after")
    def _check_regions(self) -> Self:
        if self.boxes is not None and self.windows is not None:
            raise PydanticCustomError("boxes", "give boxes or windows, not both")
        if View.parse(self.view).is_regional and self.boxes is None and self.windows is None:
            raise PydanticCustomError(
                "boxes",
                "view {view} is of boxes: give boxes or windows, or take dense:Q1,Q2",
                {"view": self.view},
            )
        return self


class FeaturesRequest(FeatureOptions):
    """JSON body of `POST /v1/features`."""

    images: Annotated[list[str | ImageBody], Field(description="base64, or base64 with a name.")]


class Item(Strict):
    """What became of one image: the row of the arrays that holds it, or an error."""

    index: int
    name: str | None = None
    status: Literal["ok", "error"]
    row: int | None = None
    error: ErrorBody | None = None


class BoxedItem(Item):
    """What became of one image of which features of boxes were asked: its `rows` from `row` on."""

    rows: int | None = None


class TapAnswer(Strict):
    """What one tap gave: the FeatureSpec that made it and, in JSON, the numbers."""

    tap: str
    fingerprint: str
    spec: dict[str, Any]
    shape: list[int]
    data: Any = None


class FeaturesAnswer(Strict):
    """The answer to a feature request."""

    request_id: str
    backbone: str
    weights: WeightsBody
    taps: dict[str, TapAnswer]
    items: list[Item | BoxedItem]
    image_index: Annotated[
        list[int] | None, Field(description="Of boxes: the image of each row.")
    ] = None
    boxes: Annotated[
        list[list[float]] | None,
        Field(description="Of boxes: left, top, right, bottom of each row, in pixels."),
    ] = None

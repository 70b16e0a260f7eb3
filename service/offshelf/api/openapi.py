"""The OpenAPI document: the schemas, errors and examples that FastAPI cannot see by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from offshelf import __version__
from offshelf.api.errors import PROBLEM
from offshelf.errors import OffshelfError, error_codes
from offshelf.schemas.base import Problem
from offshelf.schemas.datasets import MoreImages, SourceRequest
from offshelf.schemas.features import FeaturesAnswer, FeaturesRequest
from offshelf.schemas.heads import PredictRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

TITLE: Final = "offshelf"
DESCRIPTION: Final = """\
CNN features off the shelf, as a service: the activations of any layer of ImageNet networks, and
linear heads trained on them.

Errors are `application/problem+json` (RFC 9457) with `code`, `retryable` and `request_id`. Every
answer that carries features carries the fingerprint of each tap and the digest of the weights.
"""

# Models that no route names in its signature, because it reads its body itself.
MODELS: Final = (
    FeaturesRequest,
    FeaturesAnswer,
    MoreImages,
    PredictRequest,
    Problem,
    SourceRequest,
)
REF: Final = "#/components/schemas/{model}"

SHA: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGM4IWcDAALUASNyYth2AAAAAElFTkSuQmCC"
)
WEIGHTS: Final = {
    "source": "directory",
    "label": "IMAGENET1K_V1",
    "digest": SHA,
    "licence": "BSD-3-Clause",
    "random": False,
}
FEATURES_REQUEST: Final = {
    "images": [PIXEL, {"name": "cat.png", "data": PIXEL}],
    "backbone": "alexnet",
    "taps": ["fc7", "fc7:pre"],
    "view": "center",
    "normalize": "l2",
}
FEATURES_ANSWER: Final = {
    "request_id": "5e1f6c8f0d1e4b3c9a7d2f6b8c4e0a12",
    "backbone": "alexnet",
    "weights": WEIGHTS,
    "taps": {
        "logits": {
            "tap": "logits",
            "fingerprint": SHA,
            "spec": {"backbone": "alexnet", "tap": "logits", "view": "center"},
            "shape": [1, 3],
            "data": [[0.25, 0.0, 1.5]],
        }
    },
    "items": [
        {"index": 0, "name": "cat.png", "status": "ok", "row": 0, "error": None},
        {
            "index": 1,
            "name": "notes.txt",
            "status": "error",
            "row": None,
            "error": {"code": "invalid_image", "message": "not an image", "retryable": False},
        },
    ],
}


def schema_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What to set as `app.openapi`: makes the document once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=TITLE, version=__version__, description=DESCRIPTION, routes=app.routes
                )
            )
        return app.openapi_schema

    return openapi


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    _, defined = models_json_schema([(model, "validation") for model in MODELS], ref_template=REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in defined["$defs"].items():
        schemas.setdefault(name, schema)
    # FastAPI adds its own shape of 422 wherever a route has parameters.
    for operation in _operations(document):
        responses = operation["responses"]
        if "422" in responses and PROBLEM not in responses["422"]["content"]:
            responses["422"] = _problem(422)
    for foreign in ("HTTPValidationError", "ValidationError"):
        schemas.pop(foreign, None)
    return document


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route; 429 to 5xx of the tree need no listing one by one."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    codes = sorted(code for code, kind in error_codes().items() if _listed(kind, status))
    example = {
        "type": "about:blank",
        "title": "Error",
        "status": status,
        "detail": "what is wrong, and what would be right",
        "code": codes[0] if codes else "invalid_request",
        "retryable": status in (429, 503),
        "request_id": FEATURES_ANSWER["request_id"],
    }
    content = {"schema": {"$ref": REF.format(model="Problem")}, "example": example}
    described = f"Problem; code: {', '.join(codes) or 'invalid_request'}"
    return {"description": described, "content": {PROBLEM: content}}


def _listed(kind: type[OffshelfError], status: int) -> bool:
    return kind.status == status and kind is not OffshelfError


def image_body(model: str, example: dict[str, Any]) -> dict[str, Any]:
    """The `requestBody` of a route that takes images in any of the three ways."""
    form = {
        "type": "object",
        "properties": {
            "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "params": {"type": "string", "description": "The parameters as JSON, if you like."},
        },
        "required": ["images"],
        "additionalProperties": {"type": "string"},
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": {"$ref": REF.format(model=model)}, "example": example},
            "image/*": binary,
            "application/octet-stream": binary,
        },
    }


def archive_body(model: str) -> dict[str, Any]:
    """The `requestBody` of a route that takes an archive, or JSON that names a source."""
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {
            "archive": file,
            "name": {"type": "string"},
            "protocol": {"type": "string", "description": "By which protocol it is read."},
            "layout": {"type": "string", "enum": ["auto", "folder"]},
        },
        "required": ["archive"],
    }
    kinds = ("application/zip", "application/x-tar", "application/gzip")
    content: dict[str, Any] = {kind: {"schema": file} for kind in kinds}
    content["application/json"] = {"schema": {"$ref": REF.format(model=model)}}
    return {"required": True, "content": {"multipart/form-data": {"schema": form}, **content}}

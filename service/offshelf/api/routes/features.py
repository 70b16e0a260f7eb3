"""`POST /v1/features`: the activations of taps for one or many images."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from functools import partial

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from offshelf.api import encode, openapi
from offshelf.api.boxes import Boxes
from offshelf.api.errors import invalid
from offshelf.api.features import INLINE_BYTES, Extraction, extract, while_connected
from offshelf.api.images import Upload, UploadLimits, read_upload
from offshelf.api.limits import ClientImages, client_of
from offshelf.api.metrics import ApiMetrics
from offshelf.api.services import (
    MetricsOf,
    Services,
    ServicesOf,
    SettingsOf,
    request_id_of,
)
from offshelf.schemas.features import FeatureOptions, FeatureParams
from offshelf.settings import Settings

router = APIRouter(prefix="/v1", tags=["features"])


@router.post(
    "/features",
    summary="Extract features",
    operation_id="extract_features",
    response_class=Response,
    responses={
        200: {
            "description": "Rows of the good images, and an item for every image.",
            "content": {
                encode.JSON: {
                    "schema": {"$ref": openapi.REF.format(model="FeaturesAnswer")},
                    "example": openapi.FEATURES_ANSWER,
                },
                encode.NPY: {},
                encode.NPZ: {},
                encode.ARROW: {},
            },
        },
        **openapi.problems(404, 406, 413, 415, 422, 429, 500, 503, 504),
    },
    openapi_extra={"requestBody": openapi.image_body("FeaturesRequest", openapi.FEATURES_REQUEST)},
)
async def post_features(
    request: Request, services: ServicesOf, settings: SettingsOf, metrics: MetricsOf
) -> Response:
    """Answer with the features of every image under every tap asked for.

    Images come as multipart files named `images`, as base64 in JSON, or as the whole body.
    Parameters stand in the form, in the JSON or in the query. One bad image fails alone. With
    `boxes` or `windows` the rows are of them, of all images one after the other, and
    `image_index` and `boxes` say which.
    """
    upload = await read_upload(request, limits_of(settings))
    options = options_of(upload)
    media_type = encode.negotiate(request.headers.get("accept"), options.taps)
    boxes = Boxes.of(options, upload.images)
    extraction = await counted(request, services, settings, metrics, upload, options, boxes)
    request_id = request_id_of(request)
    work = partial(encode.encode, extraction, media_type, options.encoding, request_id)
    size = sum(tap.rows.nbytes for tap in extraction.taps.values())
    answer = await run_in_threadpool(work) if size > INLINE_BYTES else work()
    return Response(answer.content, headers=answer.headers, media_type=answer.media_type)


def limits_of(settings: Settings) -> UploadLimits:
    """What a request with images may hold."""
    return UploadLimits(settings.max_request_images, settings.max_image_bytes)


def options_of(upload: Upload) -> FeatureOptions:
    """The parameters, checked."""
    try:
        return FeatureOptions.model_validate(upload.params)
    except ValidationError as error:
        raise invalid(error) from error


async def counted(
    request: Request,
    services: Services,
    settings: Settings,
    metrics: ApiMetrics,
    upload: Upload,
    params: FeatureParams,
    boxes: Boxes | None = None,
) -> Extraction:
    """Extract while the client is there, and count what became of the images."""
    images, request_id = upload.images, request_id_of(request)
    failed = len(images)
    try:
        clients: ClientImages = request.app.state.client_images
        cost = boxes.inputs(len(images), params.view) if boxes else len(images)
        with clients.waiting(client_of(request), cost):
            work = extract(services, images, params, request_id, settings.request_deadline_s, boxes)
            extraction = await while_connected(request.receive, work)
        failed = sum(item.status == "error" for item in extraction.items)
    finally:
        metrics.images.labels("ok").inc(len(images) - failed)
        metrics.images.labels("error").inc(failed)
    return extraction

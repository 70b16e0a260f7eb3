"""`/v1/heads`: training linear models on features, and predicting with them."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from offshelf.api import openapi
from offshelf.api.features import Extraction
from offshelf.api.images import read_upload
from offshelf.api.limits import admit_job
from offshelf.api.openapi import problems
from offshelf.api.pages import After, HeadName, Limit
from offshelf.api.routes.features import counted, limits_of
from offshelf.api.routes.jobs import IdempotencyKey
from offshelf.api.services import (
    OWNER,
    MetricsOf,
    Services,
    ServicesOf,
    SettingsOf,
    request_id_of,
)
from offshelf.api.submitting import job_body, job_path, submit
from offshelf.core.spec import FeatureSpec
from offshelf.datasets import records
from offshelf.errors import InvalidParameter
from offshelf.heads import listing, model, names
from offshelf.heads.model import LinearHead, params_of
from offshelf.schemas.base import Page
from offshelf.schemas.features import Item
from offshelf.schemas.heads import HEAD, Head, HeadRequest, PredictAnswer, Prediction
from offshelf.schemas.jobs import JobBody
from offshelf.schemas.learning import HeadKind

router = APIRouter(prefix="/v1/heads", tags=["heads"])


@router.post(
    "",
    status_code=202,
    summary="Train a head",
    operation_id="create_head",
    responses=problems(404, 409, 422, 429, 503),
)
def post_head(
    wanted: HeadRequest,
    response: Response,
    services: ServicesOf,
    settings: SettingsOf,
    key: IdempotencyKey = None,
) -> JobBody:
    """Queue a job that extracts what is missing and trains; `Location` says where to watch it."""
    if wanted.name:
        names.check_name(wanted.name)
    dataset = records.find(services.store, OWNER, wanted.dataset)
    admit_job(services, settings, dataset.total)
    params = wanted.model_dump(mode="json") | {"dataset": dataset.id}
    job = submit(services, HEAD, params, key, dataset.total)
    response.headers["Location"] = job_path(job)
    return job_body(job)


@router.get("", summary="List heads", operation_id="list_heads", responses=problems(422, 503))
def list_heads(
    services: ServicesOf,
    after: After = None,
    limit: Limit = 50,
    name: Annotated[str | None, Query(max_length=100)] = None,
    dataset: Annotated[str | None, Query(max_length=80)] = None,
    kind: HeadKind | None = None,
    tag: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[Head]:
    """All heads, or those of a name, dataset, kind and tag, by id."""
    if name:
        names.check_name(name)
    wanted = listing.Wanted(name, dataset, kind, tag)
    found, more = listing.page(services.store, OWNER, wanted, after, limit)
    return Page(items=found, has_more=more, after=found[-1].id if more else None)


@router.get("/{head}", summary="Show a head", operation_id="get_head", responses=problems(404, 503))
def get_head(head: HeadName, services: ServicesOf) -> Head:
    """A head's card: the features it was trained on, and how well it does."""
    return listing.tagged(services.store, names.resolve(services.store, OWNER, head))


@router.delete(
    "/{head}",
    status_code=204,
    summary="Delete a head",
    operation_id="delete_head",
    responses=problems(404, 503),
)
def delete_head(head: HeadName, services: ServicesOf) -> None:
    """Remove a head, its tags and what was exported of it; its dataset and features stay.

    Its version is not given again.
    """
    model.delete(services.store, names.resolve(services.store, OWNER, head))


@router.post(
    "/{head}/predict",
    summary="Predict with a head",
    operation_id="predict",
    responses=problems(404, 409, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra={
        "requestBody": openapi.image_body(
            "PredictRequest", {"images": openapi.FEATURES_REQUEST["images"]}
        )
    },
)
async def predict(
    head: HeadName,
    request: Request,
    services: ServicesOf,
    settings: SettingsOf,
    metrics: MetricsOf,
) -> PredictAnswer:
    """Label every image. Bodies as for features, without parameters: the head knows them.

    `scores` are margins of an SVM and probabilities of a logistic regression; `probabilities` are
    those of a calibrated head, or of a logistic regression. One bad image
    fails alone; features of another fingerprint than the head's are refused.
    """
    loaded = await run_in_threadpool(_loaded, services, head)
    _refuse_regions(loaded.card)
    upload = await read_upload(request, limits_of(settings))
    _refuse_params(upload.params)
    params = params_of(loaded.card)
    extraction = await counted(request, services, settings, metrics, upload, params)
    return PredictAnswer(
        request_id=request_id_of(request),
        head=loaded.card.id,
        fingerprint=loaded.card.fingerprint,
        backbone=extraction.backbone,
        weights=extraction.weights,
        predictions=await run_in_threadpool(predictions, loaded, extraction),
    )


def _loaded(services: Services, head: str) -> LinearHead:
    """A head by its id or name, whose weights stay in memory while it is in use."""
    card = names.resolve(services.store, OWNER, head)
    return model.load_kept(services.store, OWNER, card.id)


def predictions(head: LinearHead, extraction: Extraction) -> list[Prediction]:
    """A label and scores for every good image; FingerprintMismatch for features of another kind."""
    (tap,) = extraction.taps.values()
    head.check(FeatureSpec.from_dict(tap.spec))
    scores = head.scores(tap.rows)
    sure = head.probabilities(tap.rows) if head.has_probabilities else None
    best = np.argmax(scores, axis=1)
    told: list[Prediction] = []
    for item in extraction.items:
        if item.row is None:
            told.append(_failed(item))
            continue
        row, classes = item.row, head.card.classes
        told.append(
            Prediction(
                index=item.index,
                name=item.name,
                status="ok",
                label=classes[best[row]],
                scores=dict(zip(classes, scores[row].tolist(), strict=True)),
                probabilities=None
                if sure is None
                else dict(zip(classes, sure[row].tolist(), strict=True)),
            )
        )
    return told


def _failed(item: Item) -> Prediction:
    return Prediction(index=item.index, name=item.name, status="error", error=item.error)


def _refuse_regions(card: Head) -> None:
    """InvalidParameter for a head of several regions: an image alone has none."""
    if len(card.regions) > 1:
        raise InvalidParameter(
            f"head {card.id} was trained on the regions {', '.join(card.regions)} of each image, "
            "one after the other; predictions are of whole images"
        )


def _refuse_params(params: dict[str, object]) -> None:
    if params:
        message = "the head knows its own parameters; send images only"
        raise RequestValidationError([{"loc": ("body", name), "msg": message} for name in params])

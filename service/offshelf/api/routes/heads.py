"""`/v1/heads`: training linear models on features, and predicting with them."""

from __future__ import annotations

# ruff: noqa: TC001, TC003 - FastAPI reads the annotations of routes at run time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from offshelf.api import openapi
from offshelf.api.features import Extraction
from offshelf.api.images import read_upload
from offshelf.api.limits import admit_job
from offshelf.api.openapi import problems
from offshelf.api.pages import After, Id, Limit, check_id, page_of
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
from offshelf.errors import InvalidParameter, UnknownName
from offshelf.heads import model
from offshelf.heads.model import LinearHead
from offshelf.schemas.base import Page
from offshelf.schemas.features import FeatureParams, Item
from offshelf.schemas.heads import HEAD, Head, HeadRequest, PredictAnswer, Prediction
from offshelf.schemas.jobs import JobBody
from offshelf.store import layout

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
    dataset = records.load_body(services.store, OWNER, check_id("dataset", wanted.dataset))
    admit_job(services, settings, dataset.total)
    job = submit(services, HEAD, wanted.model_dump(mode="json"), key, dataset.total)
    response.headers["Location"] = job_path(job)
    return job_body(job)


@router.get("", summary="List heads", operation_id="list_heads", responses=problems(422, 503))
def list_heads(services: ServicesOf, after: After = None, limit: Limit = 50) -> Page[Head]:
    """All heads, by id."""
    keys = services.store.keys(layout.heads(OWNER))
    cards = [PurePosixPath(key) for key in keys if key.endswith("/card.json")]
    names, more = page_of([card.parent.name for card in cards], after, limit)
    items = list(_cards(services, names))
    return Page(items=items, has_more=more, after=names[-1] if more else None)


@router.get(
    "/{head_id}", summary="Show a head", operation_id="get_head", responses=problems(404, 503)
)
def get_head(head_id: Id, services: ServicesOf) -> Head:
    """A head's card: the features it was trained on, and how well it does."""
    return model.load_card(services.store, OWNER, check_id("head", head_id))


@router.delete(
    "/{head_id}",
    status_code=204,
    summary="Delete a head",
    operation_id="delete_head",
    responses=problems(404, 503),
)
def delete_head(head_id: Id, services: ServicesOf) -> None:
    """Remove a head; its dataset and features stay."""
    model.load_card(services.store, OWNER, check_id("head", head_id))
    # The card is what makes it a head, so it goes first.
    services.store.delete(layout.head_card(OWNER, head_id))
    services.store.delete(layout.head_weights(OWNER, head_id))


@router.post(
    "/{head_id}/predict",
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
    head_id: Id,
    request: Request,
    services: ServicesOf,
    settings: SettingsOf,
    metrics: MetricsOf,
) -> PredictAnswer:
    """Label every image. Bodies as for features, without parameters: the head knows them.

    `scores` are margins of an SVM and probabilities of a logistic regression. One bad image
    fails alone; features of another fingerprint than the head's are refused.
    """
    check_id("head", head_id)
    head = await run_in_threadpool(model.load_kept, services.store, OWNER, head_id)
    _refuse_regions(head.card)
    upload = await read_upload(request, limits_of(settings))
    _refuse_params(upload.params)
    params = params_of(head.card)
    extraction = await counted(request, services, settings, metrics, upload, params)
    return PredictAnswer(
        request_id=request_id_of(request),
        head=head.card.id,
        fingerprint=head.card.fingerprint,
        backbone=extraction.backbone,
        weights=extraction.weights,
        predictions=await run_in_threadpool(predictions, head, extraction),
    )


def _cards(services: Services, names: Sequence[str]) -> Iterator[Head]:
    """The heads of these names; one that was deleted meanwhile is left out."""
    for name in names:
        with suppress(UnknownName):
            yield model.load_card(services.store, OWNER, name)


def params_of(card: Head) -> FeatureParams:
    """The parameters that give the features the head was trained on, whatever the defaults are."""
    spec = FeatureSpec.from_dict(card.spec)
    return FeatureParams(
        backbone=spec.backbone,
        # Heads from before `asked` was kept have a label alone.
        weights=card.weights.asked or (card.weights.label if card.weights.random else None),
        taps=[spec.tap],
        view=spec.view,
        pool=spec.pooling,
        normalize=spec.normalisation,
        merge=spec.merge,
    )


def predictions(head: LinearHead, extraction: Extraction) -> list[Prediction]:
    """A label and scores for every good image; FingerprintMismatch for features of another kind."""
    (tap,) = extraction.taps.values()
    head.check(FeatureSpec.from_dict(tap.spec))
    scores = head.scores(tap.rows)
    best = np.argmax(scores, axis=1)
    told: list[Prediction] = []
    for item in extraction.items:
        if item.row is None:
            told.append(_failed(item))
            continue
        values = scores[item.row].tolist()
        told.append(
            Prediction(
                index=item.index,
                name=item.name,
                status="ok",
                label=head.card.classes[best[item.row]],
                scores=dict(zip(head.card.classes, values, strict=True)),
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

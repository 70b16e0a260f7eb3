"""`/v1/transforms`: PCA-whitenings, fitted on feature sets by queued jobs."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from contextlib import suppress
from pathlib import PurePosixPath

from fastapi import APIRouter, Response

from offshelf.api.openapi import problems
from offshelf.api.pages import After, Id, Limit, check_id, page_of
from offshelf.api.routes.jobs import IdempotencyKey
from offshelf.api.services import OWNER, ServicesOf
from offshelf.api.submitting import job_body, job_path, submit
from offshelf.errors import UnknownName
from offshelf.heads import whitening
from offshelf.heads.features import load_feature_set
from offshelf.schemas.base import Page
from offshelf.schemas.jobs import JobBody
from offshelf.schemas.transforms import TRANSFORM, Transform, TransformRequest
from offshelf.store import layout

router = APIRouter(prefix="/v1/transforms", tags=["transforms"])


@router.post(
    "",
    status_code=202,
    summary="Fit a PCA-whitening",
    operation_id="create_transform",
    responses=problems(404, 409, 422, 503),
)
def post_transform(
    wanted: TransformRequest, response: Response, services: ServicesOf, key: IdempotencyKey = None
) -> JobBody:
    """Queue a job that fits on a feature set; `Location` says where to watch it.

    Its result has the `step` to write into `normalize`, as in `l2,whiten:<id>,l2`. The steps
    before it must be those of the feature set, and so must all else: other features are refused.
    """
    features = load_feature_set(services.store, OWNER, check_id("feature set", wanted.feature_set))
    whitening.chosen_tap(features, wanted.tap)
    job = submit(services, TRANSFORM, wanted.model_dump(mode="json"), key)
    response.headers["Location"] = job_path(job)
    return job_body(job)


@router.get(
    "", summary="List transforms", operation_id="list_transforms", responses=problems(422, 503)
)
def list_transforms(
    services: ServicesOf, after: After = None, limit: Limit = 50
) -> Page[Transform]:
    """All transforms, by id, as feature sets and heads are; `created_s` tells their age."""
    ids = [PurePosixPath(key).stem for key in services.store.keys(layout.transforms(OWNER))]
    names, more = page_of(ids, after, limit)
    items: list[Transform] = []
    for name in names:
        with suppress(UnknownName):  # it was deleted meanwhile
            items.append(whitening.load_card(services.store, OWNER, name))
    return Page(items=items, has_more=more, after=names[-1] if more else None)


@router.get(
    "/{transform_id}",
    summary="Show a transform",
    operation_id="get_transform",
    responses=problems(404, 503),
)
def get_transform(transform_id: Id, services: ServicesOf) -> Transform:
    """A transform: the features it was fitted on, and what it keeps of them."""
    return whitening.load_card(services.store, OWNER, check_id("transform", transform_id))


@router.delete(
    "/{transform_id}",
    status_code=204,
    summary="Delete a transform",
    operation_id="delete_transform",
    responses=problems(404, 503),
)
def delete_transform(transform_id: Id, services: ServicesOf) -> None:
    """Remove a transform. Heads that were trained on its features can no longer predict."""
    card = whitening.load_card(services.store, OWNER, check_id("transform", transform_id))
    # The card is what makes it a transform, so it goes first.
    services.store.delete(layout.transform_card(OWNER, card.id))
    services.store.delete(layout.whitening(card.id))

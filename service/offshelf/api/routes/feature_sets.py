"""`/v1/feature-sets`: the features of whole datasets, as queued jobs."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from fastapi import APIRouter, Response

from offshelf.api.limits import admit_job
from offshelf.api.openapi import problems
from offshelf.api.pages import After, Id, Limit, check_id, page_of
from offshelf.api.routes.jobs import IdempotencyKey
from offshelf.api.services import OWNER, ServicesOf, SettingsOf
from offshelf.api.submitting import job_body, job_path, submit
from offshelf.datasets import records
from offshelf.errors import JobConflict
from offshelf.exports import records as feature_sets
from offshelf.heads.features import load_feature_set
from offshelf.heads.removing import remove_feature_set
from offshelf.schemas.base import Page
from offshelf.schemas.feature_sets import (
    FEATURE_SET,
    FeatureSet,
    FeatureSetCard,
    FeatureSetRequest,
)
from offshelf.schemas.jobs import JobBody

router = APIRouter(prefix="/v1/feature-sets", tags=["feature sets"])


@router.post(
    "",
    status_code=202,
    summary="Extract the features of a dataset",
    operation_id="create_feature_set",
    responses=problems(404, 409, 422, 429, 503),
)
def post_feature_set(
    wanted: FeatureSetRequest,
    response: Response,
    services: ServicesOf,
    settings: SettingsOf,
    key: IdempotencyKey = None,
) -> JobBody:
    """Queue a job; `Location` says where to watch it.

    Features that are there are not made anew: a set that is there ends the job at once, and rows of
    other versions of the dataset are taken over.
    """
    dataset = records.find(services.store, OWNER, wanted.dataset)
    admit_job(services, settings, dataset.total)
    params = wanted.model_dump(mode="json") | {"dataset": dataset.id}
    job = submit(services, FEATURE_SET, params, key, dataset.total)
    response.headers["Location"] = job_path(job)
    return job_body(job)


@router.get(
    "", summary="List feature sets", operation_id="list_feature_sets", responses=problems(422, 503)
)
def list_feature_sets(
    services: ServicesOf, after: After = None, limit: Limit = 50
) -> Page[FeatureSetCard]:
    """All feature sets, by id, without what each has for every image."""
    names, more = page_of(feature_sets.ids(services.store, OWNER), after, limit)
    items = list(feature_sets.cards(services.store, OWNER, names))
    return Page(items=items, has_more=more, after=names[-1] if more else None)


@router.get(
    "/{feature_set_id}",
    summary="Show a feature set",
    operation_id="get_feature_set",
    responses=problems(404, 503),
)
def get_feature_set(feature_set_id: Id, services: ServicesOf) -> FeatureSet:
    """A feature set: its specs and fingerprints, which images have rows and which failed."""
    return load_feature_set(services.store, OWNER, check_id("feature set", feature_set_id))


@router.delete(
    "/{feature_set_id}",
    status_code=204,
    summary="Delete a feature set",
    operation_id="delete_feature_set",
    responses=problems(404, 409, 503),
)
def delete_feature_set(feature_set_id: Id, services: ServicesOf) -> None:
    """Remove a feature set, and its rows where no other set has them; its dataset stays.

    409 while a job works on the same dataset: it may count on the rows.
    """
    found = feature_sets.load_card(services.store, OWNER, check_id("feature set", feature_set_id))
    for job in services.jobs.open(OWNER):
        if job.params.get("dataset") == found.dataset:
            raise JobConflict(f"job {job.id} works on the same dataset: wait for it or cancel it")
    remove_feature_set(services.store, found)

"""`/v1/datasets`: labelled images that were uploaded, or registered where they are."""

from __future__ import annotations

# ruff: noqa: TC001, TC003 - FastAPI reads the annotations of routes at run time
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from offshelf.api.archives import Sent, names_source, read_archive, read_source
from offshelf.api.limits import admit_job
from offshelf.api.openapi import archive_body, problems
from offshelf.api.pages import After, Limit, page_of
from offshelf.api.routes.jobs import IdempotencyKey
from offshelf.api.services import OWNER, Services, ServicesOf, SettingsOf
from offshelf.api.submitting import job_body, job_path, submit
from offshelf.core.jobs import Job
from offshelf.datasets import records
from offshelf.datasets.archive import Archive
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import limits_of
from offshelf.errors import InUse, InvalidParameter
from offshelf.exports import records as feature_set_records
from offshelf.heads.removing import remove_feature_set
from offshelf.schemas.base import Page
from offshelf.schemas.datasets import (
    DATASET,
    MAX_NAME_CHARS,
    DatasetBody,
    DatasetHead,
    DatasetJob,
    MoreImages,
    SourceRequest,
)
from offshelf.schemas.feature_sets import FeatureSetCard
from offshelf.schemas.jobs import JobBody
from offshelf.settings import Settings

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

LAYOUTS: Final = ("auto", "folder")
SHOWN: Final = 5

Name = Annotated[str | None, Query(max_length=MAX_NAME_CHARS, description="A name for people.")]
ByProtocol = Annotated[
    str | None,
    Query(
        max_length=MAX_NAME_CHARS,
        description="By which protocol the archive is read, e.g. `voc2007`; left out: the names "
        "of its files tell. A field of the form as well.",
    ),
]
InLayout = Annotated[
    str | None,
    Query(
        max_length=MAX_NAME_CHARS,
        description="`folder` takes folders for classes, whatever lists lie beside them; `auto`. "
        "A field of the form as well.",
    ),
]
OfName = Annotated[
    str | None,
    Query(max_length=MAX_NAME_CHARS, description="Only the versions of this name, newest first."),
]
Reference = Annotated[
    str, Path(max_length=300, description="The id, or a name: its newest version, or `name:2`.")
]
WithFeatureSets = Annotated[bool, Query(description="Delete its feature sets as well.")]

MADE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "These images are a dataset already.", "model": DatasetBody},
    202: {"description": "A source was named: a job registers it.", "model": JobBody},
}


@router.post(
    "",
    status_code=201,
    response_model=DatasetBody | JobBody,
    summary="Make a dataset",
    operation_id="create_dataset",
    responses={**MADE, **problems(404, 409, 413, 415, 422, 429, 503)},
    openapi_extra={"requestBody": archive_body("SourceRequest")},
)
async def post_dataset(
    request: Request,
    response: Response,
    services: ServicesOf,
    settings: SettingsOf,
    name: Name = None,
    protocol: ByProtocol = None,
    layout: InLayout = None,
    key: IdempotencyKey = None,
) -> DatasetBody | JobBody:
    """Make a dataset of an uploaded archive, or of a source that the service may read.

    An archive (zip or tar) is a multipart file named `archive` or the whole body. Its layout is
    told by the names of its files: folders `<class>/<image>`, perhaps in one folder more; a table
    `labels.csv`; or the official layout of the `protocol` that the answer then names. Files that
    are no images, by their name or by their first bytes, are listed in `skipped` with the reason.
    The id is derived from the content: the same images in the same classes are the same dataset
    (200), under the name of the first upload. Other content under a name that is taken is the
    next `version` of it.

    A source is named in JSON; a job reads it, and its result has the id. Unless they are to be
    copied, images stay where they are and are read there.
    """
    if names_source(request):
        asked = await read_source(request, SourceRequest)
        job = DatasetJob(**asked.model_dump())
        return await run_in_threadpool(_register, services, settings, response, job, key)
    async with read_archive(request) as sent:
        wanted = Wanted(
            owner=OWNER,
            name=name or sent.name or sent.file_name,
            now_s=services.now_s(),
            protocol=protocol or sent.protocol,
            layout=_layout(layout or sent.layout),
        )
        return await run_in_threadpool(_import, services, settings, response, sent, wanted)


@router.post(
    "/{dataset_id}/images",
    status_code=201,
    response_model=DatasetBody | JobBody,
    summary="Add images to a dataset",
    operation_id="add_images",
    responses={**MADE, **problems(404, 409, 413, 415, 422, 429, 503)},
    openapi_extra={"requestBody": archive_body("MoreImages")},
)
async def post_images(
    dataset_id: Reference,
    request: Request,
    response: Response,
    services: ServicesOf,
    settings: SettingsOf,
    key: IdempotencyKey = None,
) -> DatasetBody | JobBody:
    """Make the next version of a dataset: its images, and those of an archive or a source.

    The dataset itself stays as it is. The layout is `<class>/<image>`. A path that the dataset
    has with another image is an error; images that it has already make no new version (200).
    """
    parent = await run_in_threadpool(records.find, services.store, OWNER, dataset_id)
    wanted = Wanted(owner=OWNER, name=parent.name, now_s=services.now_s(), parent=parent)
    wanted.check()
    if names_source(request):
        asked = await read_source(request, MoreImages)
        job = DatasetJob(**asked.model_dump(), name=parent.name, parent=parent.id)
        return await run_in_threadpool(_register, services, settings, response, job, key)
    async with read_archive(request) as sent:
        return await run_in_threadpool(_import, services, settings, response, sent, wanted)


@router.get("", summary="List datasets", operation_id="list_datasets", responses=problems(422, 503))
def list_datasets(
    services: ServicesOf, after: After = None, limit: Limit = 50, name: OfName = None
) -> Page[DatasetBody]:
    """All datasets, by id; or the versions of a name, newest first."""
    if name is not None:
        return _versions(services, name, after, limit)
    names, more = page_of(records.ids(services.store, OWNER), after, limit)
    items = [records.load_head(services.store, OWNER, name).body for name in names]
    return Page(items=items, has_more=more, after=names[-1] if more else None)


@router.get(
    "/{reference}",
    summary="Show a dataset",
    operation_id="get_dataset",
    responses=problems(404, 503),
)
def get_dataset(reference: Reference, services: ServicesOf) -> DatasetBody:
    """A dataset: its classes and how many images each has."""
    return records.find(services.store, OWNER, reference).body


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a dataset",
    operation_id="delete_dataset",
    responses=problems(404, 409, 503),
)
def delete_dataset(
    dataset_id: Reference, services: ServicesOf, feature_sets: WithFeatureSets = False
) -> None:
    """Remove a dataset that no job is at work on; with `feature_sets`, its feature sets too.

    While it has feature sets it is not removed otherwise. Heads and whitenings stay: they hold
    all that they need. So do the bytes of images in the store, which are kept by content: other
    datasets may share them.
    """
    head = records.find(services.store, OWNER, dataset_id)
    made = {card.id: card for card in _feature_sets(services, head.id)}
    if jobs := _open_jobs(services, {head.id, *made}):
        raise InUse(f"dataset {head.id} is in use by {_some(jobs, 'job')}: cancel or await them")
    if made and not feature_sets:
        raise InUse(
            f"dataset {head.id} has {_some(list(made), 'feature set')}: delete them with it "
            "(feature_sets=true)"
        )
    for card in made.values():
        remove_feature_set(services.store, card)
    records.delete(services.store, OWNER, head.id)


def _import(
    services: Services, settings: Settings, response: Response, sent: Sent, wanted: Wanted
) -> DatasetBody:
    limits = limits_of(settings)
    head, new = import_dataset(services.store, Archive(sent.file, limits), wanted, limits)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/datasets/{head.id}"
    return head.body


def _register(
    services: Services,
    settings: Settings,
    response: Response,
    asked: DatasetJob,
    key: str | None,
) -> JobBody:
    """Queue the job. What can be told now is told now."""
    _wanted_of(asked).check()
    services.sources.open(asked.source)
    admit_job(services, settings, 0)  # how many images there are, nobody knows yet
    job = submit(services, DATASET, asked.model_dump(mode="json", by_alias=True), key)
    response.status_code = 202
    response.headers["Location"] = job_path(job)
    return job_body(job)


def _wanted_of(asked: DatasetJob) -> Wanted:
    return Wanted(OWNER, asked.name or "", 0.0, asked.protocol, asked.layout)


def _layout(given: str | None) -> str:
    layout = given or "auto"
    if layout not in LAYOUTS:
        raise InvalidParameter(f"no layout {layout[:SHOWN]!r}: {' or '.join(LAYOUTS)}")
    return layout


def _versions(services: Services, name: str, after: str | None, limit: int) -> Page[DatasetBody]:
    """From the version after the one with the id `after`."""
    found: list[DatasetHead] = []
    passed = after is None
    for head in records.versions(services.store, OWNER, name):
        if passed:
            found.append(head)
        passed = passed or head.id == after
        if len(found) > limit:
            break
    more = len(found) > limit
    items = [head.body for head in found[:limit]]
    return Page(items=items, has_more=more, after=items[-1].id if more else None)


def _open_jobs(services: Services, ids: set[str]) -> list[str]:
    """The jobs that have not ended and name one of the ids as what they are to read."""
    return sorted(job.id for job in services.jobs.open(OWNER) if ids & _reads(job))


def _reads(job: Job) -> set[str]:
    return {str(job.params.get(field)) for field in ("dataset", "parent", "feature_set")}


def _feature_sets(services: Services, dataset_id: str) -> Iterator[FeatureSetCard]:
    """The cards of those of a dataset; a manifest is as large as its dataset."""
    names = feature_set_records.ids(services.store, OWNER)
    cards = feature_set_records.cards(services.store, OWNER, names)
    return (card for card in cards if card.dataset == dataset_id)


def _some(ids: list[str], what: str) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{what} {', '.join(islice(ids, SHOWN))}{more}"

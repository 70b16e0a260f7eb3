"""`/v1/feature-sets/{id}/files` and `/items`: what a feature set holds, to download."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from offshelf.api.downloads import answer_file
from offshelf.api.exporting import Exporter
from offshelf.api.openapi import problems
from offshelf.api.pages import MAX_LIMIT, Id, check_id
from offshelf.api.services import OWNER, ServicesOf
from offshelf.errors import InvalidParameter
from offshelf.exports import arrays, records
from offshelf.exports.columns import MEDIA_TYPES, ColumnsExport
from offshelf.exports.files import file_of
from offshelf.exports.items import read_items
from offshelf.exports.table import Table, load_table
from offshelf.schemas.base import Page
from offshelf.schemas.feature_sets import FeatureSetCard, FeatureSetItem
from offshelf.store.interface import Store

router = APIRouter(prefix="/v1/feature-sets", tags=["feature sets"])

FileName = Annotated[
    str,
    Path(
        max_length=200,
        description="`<tap>.npy`, `<tap>.safetensors`, `<tap>.parquet`, `<tap>.arrow`, or "
        "`items.jsonl`.",
        examples=["fc7.npy", "fc7:pre.parquet", "items.jsonl"],
    ),
]
AfterItem = Annotated[
    str | None, Query(max_length=20, description="`after` of the page before this one.")
]
ItemLimit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")]
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_TYPES: Final = (arrays.NPY_TYPE, arrays.SAFETENSORS_TYPE, arrays.ITEMS_TYPE, *MEDIA_TYPES.values())
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": dict.fromkeys(_TYPES, _BINARY)},
    206: {"description": "The range of it that was asked for."},
    304: {"description": "It is what If-None-Match names."},
    **problems(404, 416, 503),
}


@router.get(
    "/{feature_set_id}/items",
    summary="List the items of a feature set",
    operation_id="list_feature_set_items",
    responses=problems(404, 422, 503),
)
def list_items(
    feature_set_id: Id, services: ServicesOf, after: AfterItem = None, limit: ItemLimit = 50
) -> Page[FeatureSetItem]:
    """The items of the dataset in their order: path, label, sha256, and the row or the error."""
    found = _found(services.store, feature_set_id)
    first = 0 if after is None else _number(after) + 1
    items = list(read_items(services.store, found.table, found.card, first, limit))
    more = first + len(items) < found.table.total
    return Page(items=items, has_more=more, after=str(items[-1].index) if items and more else None)


@router.head("/{feature_set_id}/files/{name}", include_in_schema=False)
@router.get(
    "/{feature_set_id}/files/{name}",
    summary="Download a feature set",
    operation_id="get_feature_set_file",
    responses=_FILE,
    response_class=Response,
)
async def get_file(
    feature_set_id: Id, name: FileName, request: Request, services: ServicesOf
) -> Response:
    """A file of a feature set; Range, If-Range and If-None-Match are understood.

    `<tap>.npy` is float32 (N, ...), one row for each item that went well. `<tap>.safetensors` has
    `rows`, `kept` (item numbers) and `labels` (places in the dataset's classes). `<tap>.parquet`
    and `<tap>.arrow` have the columns path, label, sha256 and vector; the first request for one
    has it written, and may be answered 503 with Retry-After until it is. `items.jsonl` has a line
    for each item.
    """
    found = await run_in_threadpool(_found, services.store, feature_set_id)
    wanted = await run_in_threadpool(file_of, services.store, found.card, found.table, name)
    if isinstance(wanted, ColumnsExport):
        exporter: Exporter = request.app.state.exporter
        wanted = await exporter.file(wanted)
    about = {"Offshelf-Feature-Set": found.card.id, **_print(found.card, name)}
    return await answer_file(request, wanted, _plain(name), about)


@dataclass(frozen=True, slots=True)
class _Found:
    card: FeatureSetCard
    table: Table


def _found(store: Store, feature_set_id: str) -> _Found:
    card = records.load_card(store, OWNER, check_id("feature set", feature_set_id))
    return _Found(card, load_table(store, card))


def _print(card: FeatureSetCard, name: str) -> dict[str, str]:
    fingerprint = card.fingerprints.get(name.rpartition(".")[0])
    return {"Offshelf-Fingerprint": fingerprint} if fingerprint else {}


def _plain(name: str) -> str:
    """A file name that every system takes."""
    return quote(name.replace(":", "_"), safe="._-")


def _number(after: str) -> int:
    if not after.isdecimal():
        raise InvalidParameter(f"after: {after!r} is not what a page gave; it is a number")
    return int(after)

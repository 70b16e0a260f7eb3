"""`/v1/heads/{id}/report`: all that is known of a head's test, as JSON or as one page."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import HTMLResponse

from offshelf.api.accept import choose
from offshelf.api.openapi import problems
from offshelf.api.pages import HeadName
from offshelf.api.report import page
from offshelf.api.report.reading import read
from offshelf.api.services import OWNER, ServicesOf, SettingsOf
from offshelf.datasets.reading import ImageReader
from offshelf.engine.decode import Limits
from offshelf.heads import names
from offshelf.schemas.reports import HeadReport

router = APIRouter(prefix="/v1/heads", tags=["heads"])

JSON: Final = "application/json"
HTML: Final = "text/html"
TYPES: Final = {"json": JSON, "html": HTML}
PAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {HTML: {"schema": {"type": "string"}}}, "description": "The report."}
}


@router.get(
    "/{head}/report",
    summary="Report on a head",
    operation_id="report_head",
    response_model=HeadReport,
    responses={**PAGE, **problems(404, 406, 422, 503)},
)
def get_report(
    head: HeadName,
    services: ServicesOf,
    settings: SettingsOf,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    as_format: Annotated[
        Literal["json", "html"] | None,
        Query(alias="format", description="In place of an `Accept` header."),
    ] = None,
) -> Response:
    """The figures of its test, computed from the scores of its test samples.

    With `Accept: text/html` or `format=html` as one page that needs no other file. Of a head
    without a test side the training figures, and `test_missing` says so; 404 for one that was
    trained before the scores of tests were kept.
    """
    wanted = TYPES[as_format] if as_format else choose(accept, (JSON, HTML))
    reported = read(services.store, names.resolve(services.store, OWNER, head))
    headers = {"Vary": "Accept"}
    if wanted == JSON:
        return Response(reported.report.model_dump_json(), media_type=JSON, headers=headers)
    limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
    headers |= {"Content-Security-Policy": page.content_policy()}
    headers |= {"X-Content-Type-Options": "nosniff"}
    images = ImageReader(services.store, services.sources)
    return HTMLResponse(page.render(reported, images, limits), headers=headers)

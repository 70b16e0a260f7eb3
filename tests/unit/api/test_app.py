"""The app around the routes: ids, logs, unexpected errors, resources, OpenAPI, no torch."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import TypeAdapter

from offshelf.api.app import create_app
from offshelf.api.metrics import ApiMetrics
from offshelf.api.middleware import RequestContext
from offshelf.api.openapi import FEATURES_ANSWER, FEATURES_REQUEST
from offshelf.errors import error_codes
from offshelf.schemas import (
    backbones,
    base,
    datasets,
    feature_sets,
    features,
    heads,
    health,
    jobs,
    transforms,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from offshelf.settings import Settings
    from tests.unit.api.conftest import Ports

WIRE = (backbones, base, datasets, feature_sets, features, health, heads, jobs, transforms)


async def test_a_request_id_is_given_or_taken_over(http: httpx.AsyncClient) -> None:
    given = (await http.get("/livez")).headers["x-request-id"]
    assert given.startswith("id")
    answer = await http.get("/nowhere", headers={"x-request-id": "client.42"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "client.42"


async def test_the_bare_address_leads_to_the_description(http: httpx.AsyncClient) -> None:
    answer = await http.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")
    assert "text/html" in answer.headers["content-type"]


@pytest.mark.parametrize("bad", ["a b", "x" * 129, "a\tb", '"', ""])
async def test_a_request_id_that_could_forge_a_log_line_is_not_taken_over(
    bad: str, http: httpx.AsyncClient
) -> None:
    answer = await http.get("/livez", headers={"x-request-id": bad})
    assert answer.headers["x-request-id"] != bad


async def test_an_unexpected_error_is_bland_outside_and_logged_under_its_id(
    http: httpx.AsyncClient, ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[Any]:
        raise ZeroDivisionError("secret")

    ports.directory.workers = broken  # type: ignore[method-assign]  # a fault for the test
    answer = await http.get("/v1/backbones")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert answer.json()["request_id"] in answer.json()["detail"]
    (record,) = [r for r in caplog.records if r.exc_info and "secret" in str(r.exc_info[1])]
    assert answer.json()["request_id"] in record.getMessage()


async def test_an_answer_that_breaks_off_breaks_the_connection(
    ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    """Half an answer is out, so nothing else may follow it: the server has to see the error."""

    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    app = RequestContext(broken, ApiMetrics(), ports.services().new_id)
    with pytest.raises(ZeroDivisionError):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            await client.get("http://api/")
    assert "failed" in caplog.text


async def test_every_request_leaves_one_access_line(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "offshelf.access"):
        await http.get("/v1/jobs/none", headers={"x-request-id": "r1"})
    (line,) = [r.getMessage() for r in caplog.records if r.name == "offshelf.access"]
    assert line.startswith("GET /v1/jobs/none 404 ")
    assert line.endswith("request_id=r1")


async def test_resources_are_opened_in_order_and_closed_in_reverse(
    ports: Ports, settings: Settings
) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def resource(name: str) -> AsyncIterator[None]:
        log.append(f"open {name}")
        yield
        log.append(f"close {name}")

    services = replace(ports.services(), resources=(resource("a"), resource("b")))
    app = create_app(services, settings)
    async with app.router.lifespan_context(app):
        assert log == ["open a", "open b"]
    assert log[2:] == ["close b", "close a"]


async def test_the_interactive_docs_are_served(http: httpx.AsyncClient) -> None:
    answer = await http.get("/docs")
    assert answer.status_code == 200
    assert "/openapi.json" in answer.text
    assert (await http.get("/openapi.json")).json()["info"]["title"] == "offshelf"


def operations(app: FastAPI) -> list[dict[str, Any]]:
    return [operation for path in app.openapi()["paths"].values() for operation in path.values()]


def test_every_operation_has_an_id_of_its_own_and_a_summary(app: FastAPI) -> None:
    ids = [operation["operationId"] for operation in operations(app)]
    assert len(set(ids)) == len(ids) > 15
    assert all(op["summary"] and op["description"] for op in operations(app))


def test_every_reference_in_the_document_leads_somewhere(app: FastAPI) -> None:
    document = app.openapi()
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.extend(v for k, v in node.items() if k == "$ref" and isinstance(v, str))
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                walk(child)

    walk(document)
    names = {ref.removeprefix("#/components/schemas/") for ref in found}
    assert names <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_examples_are_what_the_models_take(app: FastAPI) -> None:
    features.FeaturesAnswer.model_validate(FEATURES_ANSWER)
    features.FeaturesRequest.model_validate(FEATURES_REQUEST)
    checked = 0
    for operation in operations(app):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media in (m for body in bodies for m in body.get("content", {}).values()):
            if "example" in media:
                name = media["schema"]["$ref"].rsplit("/", 1)[-1]
                (model,) = [vars(module)[name] for module in WIRE if name in vars(module)][:1]
                TypeAdapter(model).validate_python(media["example"])
                checked += 1
    assert checked > 20


def test_every_listed_error_is_a_problem_with_codes_of_the_tree(app: FastAPI) -> None:
    for operation in operations(app):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                (media,) = response["content"]
                assert media == "application/problem+json"
                example = response["content"][media]["example"]
                assert error_codes()[example["code"]].status == int(status)


async def test_the_example_request_is_answered(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/features", json=FEATURES_REQUEST)
    assert answer.status_code == 200
    features.FeaturesAnswer.model_validate(answer.json())


def test_the_api_is_imported_without_torch_and_scikit_learn() -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'sklearn', 'pyarrow'):\n"
        "    sys.modules[name] = None\n"
        "import offshelf.api.app\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr

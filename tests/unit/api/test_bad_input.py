"""Bad input as a table: each case has its status and code, and the server stays up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.api.fakes import files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

OCTETS = {"content-type": "application/octet-stream"}


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 4096


def _form(body: bytes, boundary: str = "b") -> dict[str, Any]:
    return {
        "content": body,
        "headers": {"content-type": f"multipart/form-data; boundary={boundary}"},
    }


def _json(text: str) -> dict[str, Any]:
    return {"content": text, "headers": {"content-type": "application/json"}}


PATH = "/v1/features"
CASES: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "no body": ("POST", PATH, {}, 415, "unsupported_media_type"),
    "text": ("POST", PATH, {"content": b"a", "headers": {"content-type": "text/plain"}}, 415,
             "unsupported_media_type"),
    "urlencoded": ("POST", PATH, {"data": {"images": "a"}}, 415, "unsupported_media_type"),
    "empty image": ("POST", PATH, {"content": b"", "headers": OCTETS}, 422, "invalid_image"),
    "image too large": ("POST", PATH, {"content": b"x" * 1001, "headers": OCTETS}, 413,
                        "too_large"),
    "file too large": ("POST", PATH, {"files": files(b"x" * 1001)}, 413, "too_large"),
    "body too large": ("POST", PATH, {"content": b"x" * 20_001, "headers": OCTETS}, 413,
                       "too_large"),
    "endless image": ("POST", PATH, {"content": _endless(), "headers": OCTETS}, 413, "too_large"),
    "endless JSON": ("POST", PATH, {"content": _endless(),
                                    "headers": {"content-type": "application/json"}}, 413,
                     "too_large"),
    "endless head": ("POST", "/v1/heads", {"content": _endless(),
                                           "headers": {"content-type": "application/json"}}, 413,
                     "too_large"),
    "too many files": ("POST", PATH, {"files": files(*[b"a"] * 5)}, 413, "too_large"),
    "too many in JSON": ("POST", PATH, {"json": {"images": ["YQ=="] * 5}}, 413, "too_large"),
    "no images in JSON": ("POST", PATH, {"json": {"images": []}}, 422, "invalid_parameter"),
    "no images key": ("POST", PATH, {"json": {"taps": ["fc7"]}}, 422, "invalid_parameter"),
    "images no list": ("POST", PATH, {"json": {"images": "YQ=="}}, 422, "invalid_parameter"),
    "image a number": ("POST", PATH, {"json": {"images": [1]}}, 422, "invalid_parameter"),
    "image with more": ("POST", PATH, {"json": {"images": [{"data": "YQ==", "url": "u"}]}}, 422,
                        "invalid_parameter"),
    "JSON a list": ("POST", PATH, {"json": ["YQ=="]}, 422, "invalid_parameter"),
    "JSON broken": ("POST", PATH, _json("{"), 422, "invalid_parameter"),
    "JSON not UTF-8": ("POST", PATH, {"content": b'{"a": "\xff"}',
                                      "headers": {"content-type": "application/json"}}, 422,
                       "invalid_parameter"),
    "JSON very deep": ("POST", PATH, _json("[" * 9000), 422, "invalid_parameter"),
    "form empty": ("POST", PATH, _form(b"--b--\r\n"), 422, "invalid_parameter"),
    "form broken": ("POST", PATH, _form(b"nonsense"), 422, "invalid_parameter"),
    "form without boundary": ("POST", PATH, {"content": b"", "headers": {
        "content-type": "multipart/form-data"}}, 422, "invalid_parameter"),
    "file of another name": ("POST", PATH, {"files": {"pictures": ("a", b"a")}}, 422,
                             "invalid_parameter"),
    "images as a field": ("POST", PATH, {"files": files(b"a"), "data": {"images": "a"}}, 422,
                          "invalid_parameter"),
    "params no JSON": ("POST", PATH, {"files": files(b"a"), "data": {"params": "{"}}, 422,
                       "invalid_parameter"),
    "huge field": ("POST", PATH, {"files": files(b"a"), "data": {"view": "x" * 70_000}}, 413,
                   "too_large"),
    "unknown parameter": ("POST", PATH + "?layer=fc7", {"files": files(b"a")}, 422,
                          "invalid_parameter"),
    "parameter twice": ("POST", PATH + "?view=warp&view=center", {"files": files(b"a")}, 422,
                        "invalid_parameter"),
    "unknown view": ("POST", PATH + "?view=fisheye", {"files": files(b"a")}, 422,
                     "invalid_parameter"),
    "no taps": ("POST", PATH, {"json": {"images": ["YQ=="], "taps": []}}, 422,
                "invalid_parameter"),
    "33 taps": ("POST", PATH, {"json": {"images": ["YQ=="], "taps": ["fc7"] * 33}}, 422,
                "invalid_parameter"),
    "weights by path": ("POST", PATH + "?weights=/etc/passwd", {"files": files(b"a")}, 422,
                        "invalid_parameter"),
    "weights in other digits": ("POST", PATH + "?weights=random:\u0661", {"files": files(b"a")},
                                422, "invalid_parameter"),
    "long backbone": ("POST", PATH + "?backbone=" + "x" * 65, {"files": files(b"a")}, 422,
                      "invalid_parameter"),
    "long tap": ("POST", PATH + "?taps=" + "x" * 129, {"files": files(b"a")}, 422,
                 "invalid_parameter"),
    "long pool": ("POST", PATH + "?pool=" + "x" * 65, {"files": files(b"a")}, 422,
                  "invalid_parameter"),
    "head of a long dataset": ("POST", "/v1/heads", {"json": {"dataset": "x" * 81}}, 422,
                               "invalid_parameter"),
    "features of a long dataset": ("POST", "/v1/feature-sets", {"json": {"dataset": "x" * 81}}, 422,
                                   "invalid_parameter"),
    "unknown encoding": ("POST", PATH + "?encoding=hex", {"files": files(b"a")}, 422,
                         "invalid_parameter"),
    "unknown tap": ("POST", PATH + "?taps=fc9", {"files": files(b"a")}, 404, "unknown_name"),
    "Accept: xml": ("POST", PATH, {"files": files(b"a"), "headers": {"accept": "text/xml"}}, 406,
                    "not_acceptable"),
    "npy of two taps": ("POST", PATH + "?taps=fc7,conv5", {
        "files": files(b"a"), "headers": {"accept": "application/x-npy"}}, 406, "not_acceptable"),
    "no such route": ("GET", "/v2/features", {}, 404, "unknown_name"),
    "no such method": ("DELETE", PATH, {}, 405, "method_not_allowed"),
    "no such job": ("GET", "/v1/jobs/none", {}, 404, "unknown_name"),
    "a job id that reaches": ("GET", "/v1/jobs/a:events", {}, 404, "unknown_name"),
    "no such dataset": ("GET", "/v1/datasets/none", {}, 404, "unknown_name"),
    "a dataset id that climbs": ("GET", "/v1/datasets/..%2fheads", {}, 404, "unknown_name"),
    "a dataset id of dots": ("GET", "/v1/datasets/a.b", {}, 404, "unknown_name"),
    "no such head": ("GET", "/v1/heads/none", {}, 404, "unknown_name"),
    "no such head to delete": ("DELETE", "/v1/heads/none", {}, 404, "unknown_name"),
    "predict, no such head": ("POST", "/v1/heads/none/predict", {"files": files(b"a")}, 404,
                              "unknown_name"),
    "no such feature set": ("GET", "/v1/feature-sets/none", {}, 404, "unknown_name"),
    "no such backbone": ("GET", "/v1/backbones/lenet", {}, 404, "unknown_name"),
    "head of no dataset": ("POST", "/v1/heads", {"json": {"dataset": "none"}}, 404,
                           "unknown_name"),
    "head without dataset": ("POST", "/v1/heads", {"json": {}}, 422, "invalid_parameter"),
    "head of two taps": ("POST", "/v1/heads", {"json": {"dataset": "d", "taps": ["fc6", "fc7"]}},
                         422, "invalid_parameter"),
    "head with C = 0": ("POST", "/v1/heads", {"json": {"dataset": "d", "C": 0}}, 422,
                        "invalid_parameter"),
    "head with C = NaN": ("POST", "/v1/heads", _json('{"dataset": "d", "C": NaN}'), 422,
                          "invalid_parameter"),
    "head as a list": ("POST", "/v1/heads", {"json": []}, 422, "invalid_parameter"),
    "head, broken JSON": ("POST", "/v1/heads", _json("{"), 422, "invalid_parameter"),
    "empty idempotency key": ("POST", "/v1/heads", {"json": {"dataset": "d"}, "headers": {
        "idempotency-key": ""}}, 422, "invalid_parameter"),
    "page of none": ("GET", "/v1/jobs?limit=0", {}, 422, "invalid_parameter"),
    "page too long": ("GET", "/v1/jobs?limit=501", {}, 422, "invalid_parameter"),
    "page of text": ("GET", "/v1/datasets?limit=x", {}, 422, "invalid_parameter"),
    "upload of text": ("POST", "/v1/datasets", {"content": b"x", "headers": {
        "content-type": "text/plain"}}, 415, "unsupported_media_type"),
    "JSON without a source": ("POST", "/v1/datasets", {"json": {}}, 422, "invalid_parameter"),
    "source not allowed": ("POST", "/v1/datasets", {"json": {"source": "/etc"}}, 422,
                           "invalid_parameter"),
    "images for no dataset": ("POST", "/v1/datasets/d/images", {"json": {"source": "/etc"}}, 404,
                              "unknown_name"),
    "upload in no layout": ("POST", "/v1/datasets?layout=x", {"content": b"x", "headers": {
        "content-type": "application/zip"}}, 422, "invalid_parameter"),
    "delete no dataset": ("DELETE", "/v1/datasets/d", {}, 404, "unknown_name"),
    "upload without a file": ("POST", "/v1/datasets", {"files": {"x": (None, "y")}}, 422,
                              "invalid_parameter"),
    "upload, no archive": ("POST", "/v1/datasets", {"files": {"archive": ("a.zip", b"junk")}},
                           422, "invalid_parameter"),
    "upload, two files": ("POST", "/v1/datasets", {"files": [
        ("archive", ("a", b"a")), ("archive", ("b", b"b"))]}, 413, "too_large"),
    "upload too large": ("POST", "/v1/datasets", {"content": b"x" * 100_001, "headers": OCTETS},
                         413, "too_large"),
    "upload, endless": ("POST", "/v1/datasets", {"content": _endless(), "headers": OCTETS}, 413,
                        "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_bad_input_has_its_status_and_code(case: str, http: httpx.AsyncClient) -> None:
    method, path, arguments, status, code = CASES[case]
    answer = await http.request(method, path, **arguments)
    problem = json.loads(answer.content)
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["title"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert (await http.get("/livez")).status_code == 200


async def test_validation_errors_name_the_field(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/heads", json={"dataset": "d", "kind": "forest", "c": 1})
    assert {error["field"] for error in answer.json()["errors"]} == {"kind", "c"}


async def test_a_missing_method_says_what_is_allowed(http: httpx.AsyncClient) -> None:
    assert (await http.put("/v1/jobs")).headers["allow"] == "GET"

"""Bad input, as a table: each case has its status and code, and harms nobody beside it."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.bad_images import BAD_IMAGES, GOOD_IMAGES

if TYPE_CHECKING:
    from tests.serving import Service

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PARAMS = {"backbone": "squeezenet1_0", "weights": "random:0", "taps": "logits"}


def post(service: Service, images: list[bytes], **params: Any) -> httpx.Response:
    return httpx.post(
        f"{service.url}/v1/features",
        files=[("images", (f"{i}", image)) for i, image in enumerate(images)],
        data={**PARAMS, **params},
        timeout=60,
    )


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_alone_gives_its_status_and_code(service: Service, name: str) -> None:
    image, status, code = BAD_IMAGES[name]
    assert_problem(post(service, [image]), status, code)


def test_bad_images_do_not_harm_the_good_ones_beside_them(service: Service) -> None:
    bad = [image for name, (image, _, _) in BAD_IMAGES.items() if name != "too many bytes"]
    good = list(GOOD_IMAGES.values())
    mixed = [image for pair in zip(itertools.cycle(good), bad, strict=False) for image in pair]
    answer = post(service, mixed, encoding="base64")
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    assert [item["status"] for item in items] == ["ok", "error"] * (len(mixed) // 2)
    assert [item["row"] for item in items[::2]] == list(range(len(mixed) // 2))
    expected = [code for name, (_, _, code) in BAD_IMAGES.items() if name != "too many bytes"]
    assert [item["error"]["code"] for item in items[1::2]] == expected
    assert all(item["error"]["message"] for item in items[1::2])


@pytest.mark.parametrize("name", GOOD_IMAGES)
def test_every_kind_of_image_is_read(service: Service, name: str) -> None:
    answer = post(service, [GOOD_IMAGES[name]])
    assert answer.status_code == 200, answer.text
    assert answer.json()["taps"]["logits"]["shape"] == [1, 1000]


@pytest.mark.parametrize(
    ("params", "status", "code", "says"),
    [
        ({"backbone": "alexnot"}, 404, "unknown_name", "alexnet"),
        ({"taps": "logit"}, 404, "unknown_name", "logits"),
        ({"taps": "logits:post"}, 422, "invalid_parameter", ":pre"),
        ({"taps": "fire9:pre"}, 422, "invalid_parameter", "conv1"),
        ({"view": "sideways"}, 422, "invalid_parameter", "center"),
        ({"pool": "grid:0"}, 422, "invalid_parameter", "grid:N"),
        ({"pool": "mean"}, 422, "invalid_parameter", "avg"),
        ({"normalize": "l1"}, 422, "invalid_parameter", "l2"),
        ({"weights": "random"}, 404, "unknown_name", "did you mean random:<seed>"),
        ({"tap": "logits"}, 422, "invalid_parameter", "tap"),
        ({"backbone": "vgg16", "weights": ""}, 422, "invalid_parameter", "weights"),
    ],
)
def test_bad_parameter_says_what_would_be_right(
    service: Service, params: dict[str, str], status: int, code: str, says: str
) -> None:
    problem = assert_problem(post(service, [GOOD_IMAGES["jpeg"]], **params), status, code)
    assert says in json.dumps(problem)


def test_missing_weights_name_the_file_and_where_to_put_it(service: Service) -> None:
    answer = httpx.post(
        f"{service.url}/v1/features",
        files=[("images", GOOD_IMAGES["jpeg"])],
        data={"backbone": "vgg16", "taps": "fc7"},
        timeout=60,
    )
    if answer.status_code == 200:
        pytest.skip("this machine has the weights of VGG-16, or a route to them")
    problem = assert_problem(answer, 503, "weights_missing")
    assert "vgg16.safetensors" in problem["detail"]
    assert "vgg16-397923af.pth" in problem["detail"]
    assert "OFFSHELF_WEIGHTS_DIR" in problem["detail"]
    # Which folder that is on the worker's machine is for its log.
    assert not re.search(r"(?<![\w/:])/\w", problem["detail"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_name"),
        ("PUT", "/v1/features", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/none", 404, "unknown_name"),
        ("DELETE", "/v1/jobs/none", 404, "unknown_name"),
        ("GET", "/v1/datasets/none", 404, "unknown_name"),
        ("GET", "/v1/heads/none", 404, "unknown_name"),
        ("GET", "/v1/backbones/none", 404, "unknown_name"),
        ("POST", "/v1/features", 415, "unsupported_media_type"),
    ],
)
def test_wrong_address_is_a_problem_too(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    answer = httpx.request(method, f"{service.url}{path}", timeout=10)
    assert_problem(answer, status, code)


def test_service_is_healthy_after_all_that(service: Service) -> None:
    assert service.ready()
    assert post(service, [GOOD_IMAGES["jpeg"]]).status_code == 200

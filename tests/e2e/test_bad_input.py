"""Bad input, as a table: each case has its status and code, and harms nobody beside it."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.pictures import as_jpeg, photographs

if TYPE_CHECKING:
    from tests.serving import Service

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PARAMS = {"backbone": "squeezenet1_0", "weights": "random:0", "taps": "logits"}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small() -> Image.Image:
    return photographs()[0].resize((96, 64))


def bomb() -> bytes:
    """A well-formed PNG header of 50,000 x 50,000 pixels with next to no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


BAD_IMAGES = {
    "empty": (b"", 422, "invalid_image"),
    "text": (b"this is not an image, it is a sentence", 422, "invalid_image"),
    "truncated jpeg": (as_jpeg(small())[:900], 422, "invalid_image"),
    "jpeg header only": (as_jpeg(small())[:20], 422, "invalid_image"),
    "truncated png": (encoded(small(), "PNG")[:400], 422, "invalid_image"),
    "truncated gif": (encoded(small(), "GIF")[:200], 422, "invalid_image"),
    "truncated webp": (encoded(small(), "WEBP")[:200], 422, "invalid_image"),
    "truncated tiff": (encoded(small(), "TIFF")[:60], 422, "invalid_image"),
    "format that is not read": (encoded(small(), "PPM"), 422, "invalid_image"),
    "pdf": (encoded(small(), "PDF"), 422, "invalid_image"),
    "zip": (b"PK\x03\x04" + bytes(60), 422, "invalid_image"),
    "decompression bomb": (bomb(), 413, "too_large"),
    "too many bytes": (as_jpeg(small()) + bytes(33 << 20), 413, "too_large"),
    "float samples": (
        encoded(Image.fromarray(np.eye(64, dtype="f4")), "TIFF"),
        422,
        "invalid_image",
    ),
}

GOOD_IMAGES = {
    "jpeg": as_jpeg(small()),
    "png": encoded(small(), "PNG"),
    "webp": encoded(small(), "WEBP"),
    "gif": encoded(small(), "GIF"),
    "bmp": encoded(small(), "BMP"),
    "tiff": encoded(small(), "TIFF"),
    "grey": encoded(small().convert("L"), "JPEG"),
    "one bit": encoded(small().convert("1"), "PNG"),
    "cmyk": encoded(small().convert("CMYK"), "JPEG"),
    "palette": encoded(small().convert("P"), "PNG"),
    "alpha": encoded(small().convert("RGBA"), "PNG"),
    "grey and alpha": encoded(small().convert("LA"), "PNG"),
    "16 bit": encoded(Image.fromarray(np.arange(64 * 64, dtype="u2").reshape(64, 64) * 16), "PNG"),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
    "a line": encoded(Image.new("RGB", (3000, 1), "red"), "PNG"),
}


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
    mixed = [image for pair in zip(good, bad, strict=False) for image in pair]
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

"""Boxes and windows on POST /v1/features: rows of all images, whose they are, and what is wrong."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.ipc  # type: ignore[import-untyped]  # it has no type stubs
import pytest

from offshelf.api.boxes import Boxes
from offshelf.api.images import Image
from offshelf.schemas.features import FeatureOptions, FeaturesAnswer
from tests.unit.api.fakes import files, values_of

if TYPE_CHECKING:
    import httpx

    from tests.unit.api.conftest import Ports

BOXES = [[[0, 0, 10, 10], [3.5, 0, 9, 30]], [[1, 2, 3, 4]], [[7, 0, 8, 8]]]
FORM = {"taps": "fc7", "boxes": json.dumps(BOXES)}
IMAGES = files(b"a", b"bad", b"b")
INDEX, FLAT = [0, 0, 2], [*BOXES[0], *BOXES[2]]
ROWS = np.stack(
    [
        values_of(b"a", "fc7"),
        (values_of(b"a", "fc7") + 3.5).astype(np.float32),
        (values_of(b"b", "fc7") + 7).astype(np.float32),
    ]
)


async def test_rows_are_of_boxes_and_items_say_which(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/features", files=IMAGES, data=FORM)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    FeaturesAnswer.model_validate(told)
    np.testing.assert_array_equal(np.float32(told["taps"]["fc7"]["data"]), ROWS)
    assert (told["image_index"], told["boxes"]) == (INDEX, FLAT)
    assert [(item["row"], item["rows"]) for item in told["items"]] == [(0, 2), (None, None), (2, 1)]
    assert answer.headers["Offshelf-Kept"] == "0,2"


async def test_binary_answers_say_whose_the_rows_are(http: httpx.AsyncClient) -> None:
    async def content(media_type: str) -> bytes:
        headers = {"Accept": media_type}
        return (await http.post("/v1/features", files=IMAGES, data=FORM, headers=headers)).content

    with np.load(io.BytesIO(await content("application/x-npz"))) as npz:
        np.testing.assert_array_equal(npz["fc7"], ROWS)
        np.testing.assert_array_equal(npz["image_index"], INDEX)
        np.testing.assert_array_equal(npz["boxes"], FLAT)
    rows = np.load(io.BytesIO(await content("application/x-npy")))
    np.testing.assert_array_equal(rows, ROWS)
    arrow = await content("application/vnd.apache.arrow.stream")
    table = pyarrow.ipc.open_stream(arrow).read_all()
    assert table["index"].to_pylist() == INDEX
    assert table["box"].to_pylist() == FLAT
    np.testing.assert_array_equal(np.float32(table["fc7"].to_pylist()), ROWS)


async def test_windows_are_found_by_the_worker(http: httpx.AsyncClient, ports: Ports) -> None:
    body = {
        "images": [base64.b64encode(b"a").decode()],
        "taps": ["fc7"],
        "windows": "stride:030,10",
        "view": "squash",
    }
    told = (await http.post("/v1/features", json=body)).json()
    assert told["boxes"] == [[0, 0, 30, 30], [10, 0, 40, 30]]
    (request,) = ports.interactive.asked
    assert (request.windows, request.boxes, request.boxes_in_all) == ("stride:30,10", None, 0)
    assert "windows" not in request.params


async def test_each_request_knows_the_boxes_of_all_that_are_sent(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    await http.post("/v1/features", files=files(b"a", b"x" * 1001, b"b"), data=FORM)
    assert [(r.index, r.boxes_in_all) for r in ports.interactive.asked] == [(0, 3), (2, 3)]


async def test_a_box_outside_fails_its_image_alone(http: httpx.AsyncClient) -> None:
    boxes = json.dumps([[[0, 0, 5, 5]], [[50, 0, 60, 5]]])
    answer = await http.post("/v1/features", files=files(b"a", b"b"), data={"boxes": boxes})
    items = answer.json()["items"]
    assert [item["status"] for item in items] == ["ok", "error"]
    assert items[1]["error"]["code"] == "invalid_image"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"boxes": "[[[0,0,5,5]]]"}, "boxes for 1 images, and 2 images"),
        ({"boxes": "[[[0,0,5]],[]]"}, "boxes"),
        ({"boxes": "[[[5,0,5,5]],[]]"}, "left is before right"),
        ({"boxes": "[[["}, "not JSON"),
        ({"boxes": '[[["NaN",0,5,5]],[]]'}, "finite"),
        ({"boxes": "[[[0,0,5,5]],[]]", "windows": "pyramid"}, "not both"),
        ({"windows": "windows"}, "pyramid:1,1.3,2;overlap=0.65"),
        ({"view": "maps:300,600"}, "give boxes or windows"),
    ],
)
async def test_what_is_wrong_is_told(
    given: dict[str, str], says: str, http: httpx.AsyncClient
) -> None:
    answer = await http.post("/v1/features", files=files(b"a", b"b"), data=given)
    assert answer.status_code == 422, answer.text
    assert says in answer.text


def test_windows_count_as_the_inputs_that_they_are() -> None:
    images = [Image(i, None, b"") for i in range(3)]

    def cost(view: str, **given: Any) -> int:
        boxes = Boxes.of(FeatureOptions(view=view, **given), images)
        assert boxes is not None
        return boxes.inputs(len(images), view)

    assert cost("squash", windows="pyramid") == 3 * 275
    assert cost("maps:300", windows="pyramid") == 3
    assert cost("squash", boxes=[*BOXES[:2], []]) == 3
    assert cost("squash", boxes=[BOXES[0] * 4, BOXES[1], []]) == 9
    assert Boxes.of(FeatureOptions(), images) is None

"""`client.features` of boxes and windows: what is sent, and whose the rows are that return."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest

import offshelf_client as sdk
from offshelf.schemas.features import FeaturesAnswer
from tests.unit.client.fake_service import WEIGHTS, FakeService, feature_of, read_form
from tests.unit.client.test_features import BAD, PIXELS, png_of

BOXES = [[(0, 0, 1 + i, 2 + j) for j in range(1 + i % 3)] for i in range(7)]
WHOLE = np.array([[0, 0, 6, 4], [1, 1, 3, 3]])


def boxed_answer(request: httpx.Request) -> httpx.Response:
    """The feature of an image for each of its boxes, the right edge of the box added."""
    files, fields = read_form(request)
    given = json.loads(fields["boxes"][0]) if "boxes" in fields else [WHOLE.tolist()] * len(files)
    items: list[dict[str, Any]] = []
    rows, index, boxes = [np.zeros((0, 5), np.float32)], [], []
    for place, ((_, name, data), own) in enumerate(zip(files, given, strict=True)):
        item: dict[str, Any] = {"index": place, "name": name}
        if data == BAD:
            error = {"code": "invalid_image", "message": "no image"}
            items.append({**item, "status": "error", "error": error})
            continue
        items.append({**item, "status": "ok", "row": len(index), "rows": len(own)})
        rows.append(np.float32([feature_of(data) + box[2] for box in own]))
        index += [place] * len(own)
        boxes += own
    array = np.concatenate(rows)
    tap = {"tap": "fc7", "fingerprint": "print", "spec": {}, "shape": list(array.shape)}
    meta = FeaturesAnswer.model_validate(
        {"request_id": "r", "backbone": "alexnet", "weights": WEIGHTS, "taps": {"fc7": tap}}
        | {"items": items}
    )
    out = io.BytesIO()
    np.savez(
        out,
        fc7=array,
        image_index=np.array(index, np.int64),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        meta=np.frombuffer(meta.model_dump_json().encode(), np.uint8),
    )
    return httpx.Response(200, content=out.getvalue())


def service() -> FakeService:
    return FakeService(routes={("POST", "/v1/features"): boxed_answer})


def test_boxes_go_with_their_images_and_rows_know_both() -> None:
    fake = service()
    with sdk.Client(transport=fake.transport) as client:
        found = client.features(PIXELS[:7], taps="fc7", boxes=BOXES)
    whose = [i for i, own in enumerate(BOXES) for _ in own]
    flat = [box for own in BOXES for box in own]
    expected = [feature_of(png_of(PIXELS[i])) + box[2] for i, box in zip(whose, flat, strict=True)]
    np.testing.assert_array_equal(found["fc7"], np.float32(expected))
    assert found.image_index is not None
    assert found.image_index.tolist() == whose
    np.testing.assert_array_equal(found.boxes, flat)
    assert [item.rows for item in found.items] == [len(own) for own in BOXES]
    assert [item.row for item in found.items] == np.cumsum([0, *map(len, BOXES)])[:-1].tolist()
    assert sorted(len(files) for files, _ in fake.forms()) == [1, 2, 2, 2]


def test_images_that_fail_have_no_rows() -> None:
    images = [png_of(PIXELS[0]), BAD, png_of(PIXELS[2])]
    with sdk.Client(transport=service().transport) as client:
        found = client.features(images, taps="fc7", windows="pyramid", on_error="skip")
    assert found.image_index is not None
    assert found.image_index.tolist() == [0, 0, 2, 2]
    np.testing.assert_array_equal(found.boxes, np.concatenate([WHOLE, WHOLE]))
    assert found.kept.tolist() == [0, 2]


def test_whole_images_have_no_boxes() -> None:
    with sdk.Client(transport=FakeService().transport) as client:
        found = client.features(PIXELS[:2], taps="fc7")
    assert (found.image_index, found.boxes) == (None, None)


@pytest.mark.parametrize("count", [2, 4])
def test_lists_of_boxes_are_as_many_as_images(count: int) -> None:
    with (
        sdk.Client(transport=service().transport) as client,
        pytest.raises(ValueError, match=f"boxes for {count} images, and"),
    ):
        client.features(PIXELS[:3], taps="fc7", boxes=BOXES[:count])


def test_boxes_and_windows_are_not_both() -> None:
    with (
        sdk.Client(transport=service().transport) as client,
        pytest.raises(ValueError, match="not both"),
    ):
        client.features(PIXELS[:3], boxes=BOXES[:3], windows="pyramid")

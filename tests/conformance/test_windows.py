"""Features of windows: cut out, each is that of the image it shows; pooled, that of its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # its usual name

from offshelf.core.batching import Lane
from offshelf.core.windows import Pyramid, Strided
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.windowing import MAX_BOXES, Given
from offshelf.errors import InvalidImage, InvalidParameter, TooLarge
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference.pictures import encode, picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.engine.extractor import Plan

IMAGE = picture(3, 200, 150)
WINDOWS = Pyramid((1.0, 1.6, 2.8))


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    settings = Settings(device="cpu")
    made = Extractor(TorchEngine(settings), settings)
    yield made
    made.close(30)


def planned(extractor: Extractor, view: str, tap: str, pool: str | None = None) -> Plan:
    return extractor.resolve(
        FeatureParams(backbone="embednet", taps=[tap], view=view, pool=pool, normalize="l2")
    )


@pytest.mark.parametrize(("view", "tap"), [("squash", "fc6:pre"), ("ten_crop", "conv5")])
def test_a_window_that_is_cut_out_is_the_image_of_that_box(
    extractor: Extractor, view: str, tap: str
) -> None:
    with planned(extractor, view, tap) as plan:
        found = extractor.submit_windows(encode(IMAGE), plan, Lane.BULK, WINDOWS).result(100)
        boxes = WINDOWS.windows(*IMAGE.size)
        alone = [
            extractor.submit(encode(IMAGE), plan, Lane.BULK, box=tuple(box)).result(100)[tap]
            for box in boxes.tolist()
        ]
    np.testing.assert_array_equal(found.boxes, boxes)
    assert (found.width, found.height) == IMAGE.size
    assert found.features[tap].shape == (len(boxes), *alone[0].shape)
    for row, expected in zip(found.features[tap], alone, strict=True):
        assert np.linalg.norm(row - expected) <= 1e-5 * np.linalg.norm(expected)


def test_the_box_of_the_whole_image_is_the_dense_view_of_its_scale(extractor: Extractor) -> None:
    """100 pixels are nearer to the network's 72 than 220 for an image this large, and so."""
    whole = Given(np.array([[0.0, 0, *IMAGE.size]]))
    for pool in ("avg", "max", "grid:2", "grid:3:avg"):
        with (
            planned(extractor, "maps:100,220", "conv5", pool) as regional,
            planned(extractor, "dense:100", "conv5", pool) as dense,
        ):
            found = extractor.submit_windows(encode(IMAGE), regional, Lane.BULK, whole).result(100)
            expected = extractor.submit(encode(IMAGE), dense, Lane.BULK).result(100)["conv5"]
        (row,) = found.features["conv5"]
        if pool == "grid:3:avg":  # cells of whole units there, of the area here
            assert np.dot(row, expected) > 0.95
        elif pool == "max" or pool.startswith("grid"):
            np.testing.assert_allclose(row, expected, atol=1e-6)
        else:  # the map may end before the image does, or go on after it
            assert np.dot(row, expected) > 0.99


def test_fc6_at_a_place_is_the_window_that_is_there(extractor: Extractor) -> None:
    """A 72-pixel window of an image at its own scale, where the padding of the layers is away."""
    blank = picture(5, 72, 72).resize((72, 72))
    with (
        planned(extractor, "maps:72", "fc6:pre") as regional,
        planned(extractor, "squash", "fc6:pre") as plain,
    ):
        whole = Given(np.array([[0.0, 0, 72, 72]]))
        found = extractor.submit_windows(encode(blank), regional, Lane.BULK, whole).result(100)
        expected = extractor.submit(encode(blank), plain, Lane.BULK).result(100)["fc6:pre"]
    np.testing.assert_allclose(found.features["fc6:pre"][0], expected, atol=1e-6)


def test_boxes_are_pooled_where_they_lie(extractor: Extractor) -> None:
    """Against the maps of the whole image, cut by hand where the units begin and end."""
    with planned(extractor, "maps:150", "conv5", "avg") as plan:
        tap = next(tap for tap in plan.resident.card.taps if tap.name == "conv5")
        assert tap.stride is not None
        assert tap.offset is not None
        stride, first = tap.stride, tap.offset + 0.5 - tap.stride / 2
        cells = [(1, 2, 4, 3), (0, 0, 1, 1), (2, 1, 7, 6)]
        boxes = np.array(cells, np.float64) * stride + first
        found = extractor.submit_windows(encode(IMAGE), plan, Lane.BULK, Given(boxes)).result(100)
        maps = plan.resident._arranged_of(  # type: ignore[attr-defined]
            [np.array(IMAGE)[None]], list(plan.outputs.values())
        )
        (values,) = maps.values()
    for row, (left, top, right, bottom) in zip(found.features["conv5"], cells, strict=True):
        mean = F.normalize(values[0, :, top:bottom, left:right].mean((1, 2)), dim=0)
        torch.testing.assert_close(torch.from_numpy(row), mean, atol=1e-5, rtol=0)


def test_requests_and_windows_share_the_device(extractor: Extractor) -> None:
    with planned(extractor, "squash", "fc7") as plan:
        boxed = extractor.submit_windows(encode(IMAGE), plan, Lane.BULK, Strided(72, 20))
        alone = extractor.submit(encode(IMAGE), plan, Lane.INTERACTIVE)
        assert alone.result(100)["fc7"].shape == boxed.result(100).features["fc7"].shape[1:]


def test_what_cannot_be_windowed_says_why(extractor: Extractor) -> None:
    with planned(extractor, "squash", "fc7") as plan:

        def refused(windows: object, error: type[Exception], match: str) -> None:
            future = extractor.submit_windows(encode(IMAGE), plan, Lane.BULK, windows)  # type: ignore[arg-type]
            with pytest.raises(error, match=match):
                future.result(100)

        refused(Given(np.array([[300.0, 0, 310, 20]])), InvalidImage, r"outside the image of 200")
        refused(Given(np.zeros((0, 4))), InvalidImage, "no box")
        refused(Strided(10, 1), TooLarge, f"the limit is {MAX_BOXES}: take fewer scales")
        future = extractor.submit_windows(b"no image", plan, Lane.BULK, WINDOWS)
        with pytest.raises(InvalidImage):
            future.result(100)
    with pytest.raises(InvalidParameter, match="of boxes on a map"):
        planned(extractor, "dense:100", "conv5", "align:2")
    with (
        planned(extractor, "maps:100", "conv5") as plan,
        pytest.raises(InvalidParameter, match="boxes or windows"),
    ):
        extractor.submit(encode(IMAGE), plan, Lane.BULK).result(100)


def test_windows_that_nobody_waits_for_are_dropped(extractor: Extractor) -> None:
    with planned(extractor, "squash", "fc7") as plan:
        futures = [
            extractor.submit_windows(encode(IMAGE), plan, Lane.BULK, Strided(72, 4))
            for _ in range(4)
        ]
        for future in futures:
            future.cancel()
        assert all(future.cancelled() for future in futures)
        last = extractor.submit(encode(IMAGE), plan, Lane.BULK).result(100)
        assert np.isfinite(last["fc7"]).all()

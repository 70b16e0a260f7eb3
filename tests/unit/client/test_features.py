"""`client.features`: splitting, order, errors of single images, what is sent and what returns."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import offshelf_client as sdk
from offshelf_client import _batches
from offshelf_client._wire import tap_names
from tests.unit.client.fake_service import (
    FakeService,
    feature_of,
    features_answer,
    problem,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 4, 6, 3), dtype=np.uint8)
BAD = b"no image"


def png_of(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


EXPECTED = np.stack([feature_of(png_of(pixels)) for pixels in PIXELS])


def test_many_images_are_split_and_come_back_in_order() -> None:
    fake = FakeService()
    with sdk.Client(transport=fake.transport) as client:
        found = client.features(PIXELS, taps=["fc6", "fc7:pre"], batch_size=4, concurrency=3)
    np.testing.assert_array_equal(found["fc6"], EXPECTED)
    np.testing.assert_array_equal(found["fc7:pre"], EXPECTED + 1)
    assert found["fc6"].dtype == np.float32
    assert sorted(len(files) for files, _ in fake.forms()) == [3, 4, 4, 4, 4, 4]
    assert found.fingerprints == {"fc6": "print-fc6", "fc7:pre": "print-fc7:pre"}
    assert found.specs["fc6"] == {"tap": "fc6"}
    assert found.kept.tolist() == list(range(23))
    assert [item.row for item in found.items] == list(range(23))
    assert found.backbone == "alexnet"
    assert found.weights is not None
    assert found.weights.random


async def test_async_client_gives_the_same() -> None:
    fake = FakeService()
    async with sdk.AsyncClient(transport=fake.transport) as client:
        found = await client.features(iter(PIXELS), taps="fc7", batch_size=4, concurrency=3)
    np.testing.assert_array_equal(found["fc7"], EXPECTED)


def test_order_holds_when_later_requests_answer_first() -> None:
    second = threading.Event()

    def slow_first(request: httpx.Request) -> httpx.Response:
        answer = features_answer(request)
        first = float(np.load(io.BytesIO(answer.content))["fc7"][0, 0]) == EXPECTED[0, 0]
        if first:
            assert second.wait(10)
        else:
            second.set()
        return answer

    fake = FakeService(routes={("POST", "/v1/features"): slow_first})
    with sdk.Client(transport=fake.transport) as client:
        found = client.features(PIXELS[:2], taps="fc7", batch_size=1, concurrency=2)
    np.testing.assert_array_equal(found["fc7"], EXPECTED[:2])


@pytest.mark.parametrize("concurrency", [1, 3])
def test_only_a_bounded_number_of_images_is_drawn_ahead(concurrency: int) -> None:
    drawn = 0
    answered = 0
    ahead: list[int] = []
    lock = threading.Lock()

    def many():
        nonlocal drawn
        for pixels in PIXELS:
            with lock:
                drawn += 1
                ahead.append(drawn - answered)
            yield pixels

    def counted(request: httpx.Request) -> httpx.Response:
        nonlocal answered
        with lock:
            answered += 2
        return features_answer(request)

    fake = FakeService(routes={("POST", "/v1/features"): counted})
    with sdk.Client(transport=fake.transport) as client:
        client.features(many(), taps="fc7", batch_size=2, concurrency=concurrency)
    # Those in flight, a batch being put together, and the one image that did not fit into it.
    assert max(ahead) <= 2 * concurrency + 3


def test_batches_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batches, "BATCH_BYTES", 10)
    sizes = [4, 4, 4, 30, 1]
    found = list(_batches.batches((b"x" * n for n in sizes), 100))
    assert [[len(image.data) for image in batch] for batch in found] == [[4, 4], [4], [30], [1]]


def test_parameters_are_sent_and_those_left_out_are_not() -> None:
    fake = FakeService()
    with sdk.Client(transport=fake.transport) as client:
        client.features(PIXELS[0], taps="fc7")
        client.features(
            PIXELS[0], "vgg16", ["conv5", "fc6"], "warp", "grid:2", "l2", "random:3", "skip",
            merge="stack",
        )  # fmt: skip
    (files, fields), (_, more) = fake.forms()
    assert [(field, name) for field, name, _ in files] == [("images", "image-0")]
    assert fields == {"taps": ["fc7"], "view": ["center"], "normalize": ["none"]}
    assert more == {
        "taps": ["conv5", "fc6"], "view": ["warp"], "normalize": ["l2"], "backbone": ["vgg16"],
        "pool": ["grid:2"], "weights": ["random:3"], "merge": ["stack"],
    }  # fmt: skip


def test_raise_lists_all_failed_images_of_all_requests(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(BAD)
    images = [PIXELS[0], BAD, tmp_path / "bad.png", PIXELS[1], tmp_path / "gone.png"]
    fake = FakeService()
    with (
        sdk.Client(transport=fake.transport) as client,
        pytest.raises(sdk.ImagesFailed) as caught,
    ):
        client.features(images, taps="fc7", batch_size=2)
    failed = [(i.index, i.name, i.error.code) for i in caught.value.items if i.error]
    assert failed == [
        (1, None, "invalid_image"),
        (2, "bad.png", "invalid_image"),
        (4, "gone.png", "unreadable_image"),
    ]
    assert caught.value.total == 5
    assert "image 2 (bad.png): not an image [invalid_image]" in str(caught.value)


def test_skip_leaves_failed_images_out() -> None:
    images = [BAD, PIXELS[0], BAD, BAD, Path("gone.png"), PIXELS[1]]
    fake = FakeService()
    with sdk.Client(transport=fake.transport) as client:
        found = client.features(images, taps="fc7", on_error="skip", batch_size=2)
    np.testing.assert_array_equal(found["fc7"], EXPECTED[:2])
    assert found.kept.tolist() == [1, 5]
    assert [item.row for item in found.items] == [None, 0, None, None, None, 1]
    assert [item.index for item in found.items] == list(range(6))


def test_skip_with_nothing_left_gives_empty_arrays() -> None:
    fake = FakeService()
    with sdk.Client(transport=fake.transport) as client:
        found = client.features([BAD, BAD], taps=["fc7"], on_error="skip")
    assert len(found["fc7"]) == 0
    assert len(found.items) == 2


def test_no_images_at_all_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    fake = FakeService()
    with sdk.Client(transport=fake.transport) as client:
        with pytest.raises(sdk.UnreadableImage, match="there are no images in") as caught:
            client.features(tmp_path, on_error="skip")
        for nothing in ([], iter(())):
            with pytest.raises(sdk.UnreadableImage, match="the iterable is empty"):
                client.features(nothing)
    assert str(tmp_path) in str(caught.value)
    assert fake.requests == []


def test_error_of_the_whole_request_is_raised_as_it_is_even_with_skip() -> None:
    item = {"index": 0, "status": "error", "error": {"code": "unknown_name", "message": "no tap"}}
    fake = FakeService([problem(404, "unknown_name", items=[item])])
    with (
        sdk.Client(transport=fake.transport) as client,
        pytest.raises(sdk.UnknownNameError),
    ):
        client.features(PIXELS[0], taps="fc9", on_error="skip")


def test_first_fatal_error_ends_the_call_without_sending_the_rest() -> None:
    fake = FakeService([problem(422, "invalid_parameter")])
    with (
        sdk.Client(transport=fake.transport) as client,
        pytest.raises(sdk.InvalidParameterError),
    ):
        client.features(PIXELS, taps="fc7", batch_size=1, concurrency=1)
    assert len(fake.requests) == 1


async def test_async_fatal_error_cancels_what_is_under_way() -> None:
    started = asyncio.Event()
    cancelled: list[bool] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        files = request.content.count(b'name="images"')
        if files == 2:
            await asyncio.wait_for(started.wait(), 10)
            return problem(422, "invalid_parameter")
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError("it was not cancelled")

    async with sdk.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        with pytest.raises(sdk.InvalidParameterError):
            await client.features(PIXELS[:3], taps="fc7", batch_size=2, concurrency=2)
    assert cancelled == [True]


def test_two_fingerprints_in_one_call_are_refused() -> None:
    answers = iter(["a", "b"])

    def changing(request: httpx.Request) -> httpx.Response:
        content = features_answer(request).content
        with np.load(io.BytesIO(content)) as npz:
            meta = npz["meta"].tobytes().replace(b"print-fc7", b"print-" + next(answers).encode())
            out = io.BytesIO()
            np.savez(out, fc7=npz["fc7"], meta=np.frombuffer(meta, np.uint8))
        return httpx.Response(200, content=out.getvalue())

    fake = FakeService(routes={("POST", "/v1/features"): changing})
    with (
        sdk.Client(transport=fake.transport) as client,
        pytest.raises(sdk.UnexpectedAnswer, match="two fingerprints"),
    ):
        client.features(PIXELS[:2], taps="fc7", batch_size=1)


def test_answer_with_too_few_rows_or_items_is_refused() -> None:
    def short(request: httpx.Request) -> httpx.Response:
        with np.load(io.BytesIO(features_answer(request).content)) as npz:
            out = io.BytesIO()
            np.savez(out, fc7=npz["fc7"][:-1], meta=npz["meta"])
        return httpx.Response(200, content=out.getvalue())

    fake = FakeService(routes={("POST", "/v1/features"): short})
    with sdk.Client(transport=fake.transport) as client, pytest.raises(sdk.UnexpectedAnswer):
        client.features(PIXELS[:2], taps="fc7")


def test_features_are_a_mapping_whose_items_are_also_those_of_the_images() -> None:
    with sdk.Client(transport=FakeService().transport) as client:
        found = client.features(PIXELS[:2], taps=["fc6", "fc7"])
    assert isinstance(found, Mapping)
    assert [tap for tap, _ in found.items()] == ["fc6", "fc7"] == list(found)
    assert list(dict(found)) == ["fc6", "fc7"]
    assert len(found.items) == 2
    assert "fc6: (2, 5)" in repr(found)


def test_progress_counts_every_image() -> None:
    told: list[sdk.Progress] = []
    with sdk.Client(transport=FakeService().transport) as client:
        client.features(
            [PIXELS[0], BAD, PIXELS[1]], taps="fc7", on_error="skip", batch_size=2,
            progress=told.append,
        )  # fmt: skip
    assert [(p.done, p.total, p.failed) for p in told] == [(2, 3, 1), (3, 3, 1)]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"concurrency": 0}])
def test_limits_must_be_positive(wrong: dict[str, int]) -> None:
    with sdk.Client(transport=FakeService().transport) as client, pytest.raises(ValueError):  # noqa: PT011
        client.features(PIXELS[0], taps="fc7", **wrong)


def test_address_comes_from_the_argument_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OFFSHELF_URL", raising=False)
    assert sdk.Client().url == "http://127.0.0.1:8765"
    monkeypatch.setenv("OFFSHELF_URL", "http://there:1/")
    assert sdk.Client().url == "http://there:1"
    assert sdk.Client("http://here:2").url == "http://here:2"


@pytest.mark.parametrize("taps", ["fc6,fc7", ["fc6,fc7"], [" fc6 ", "fc7", "fc6"]])
def test_a_comma_parts_two_taps_as_the_service_reads_it(taps: str | list[str]) -> None:
    assert tap_names(taps) == ["fc6", "fc7"]


@pytest.mark.parametrize("taps", ["", [], " , ", ["", " "]])
def test_no_tap_at_all_is_told_before_anything_is_sent(taps: str | list[str]) -> None:
    with pytest.raises(ValueError, match="name one or more"):
        tap_names(taps)

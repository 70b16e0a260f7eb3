"""Boxes at the worker: few images at a time, an answer that is not too large, holds let go."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from offshelf.errors import InvalidImage, InvalidParameter, TooLarge, WorkerError
from offshelf.queue.messages import ImageRequest
from offshelf.schemas.features import FeatureParams
from offshelf.worker.windowed import Windowed
from tests.unit.worker.fakes import FakeExtractor, FakePlan, features_of

IMAGE = bytes(range(10, 20))
PLENTY = 1 << 30


def asked(index: int = 0, **more: Any) -> ImageRequest:
    fields = {"windows": "stride:30,10"} | more
    return ImageRequest("r", index, "inbox", 1e12, {}, IMAGE, 0.0, **fields)


def plan_of(extractor: FakeExtractor) -> Any:
    return extractor.resolve(FeatureParams(taps=["fc7"]))


class Slow:
    """An extractor whose futures end when the test says so."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []
        self.failing = False

    def submit_windows(self, *_: object) -> Future[Any]:
        future: Future[Any] = Future()
        if self.failing:
            future.set_exception(WorkerError("the worker is stopping"))
        self.futures.append(future)
        return future


def test_each_window_has_its_row() -> None:
    extractor = FakeExtractor()
    plan: FakePlan = plan_of(extractor)
    found = Windowed(extractor, PLENTY).submit(asked(), plan).result(30)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.boxes, [[0, 0, 30, 30], [10, 0, 40, 30]])
    later = bytes(value + 10 for value in IMAGE)
    expected = [features_of(IMAGE, "fc7"), features_of(later, "fc7")]
    np.testing.assert_array_equal(found.features["fc7"], expected)
    assert plan.hold.shared == 0


def test_few_images_are_under_way_at_a_time_and_all_end() -> None:
    slow, plan = Slow(), plan_of(FakeExtractor())
    windowed = Windowed(slow, PLENTY, at_once=2)  # type: ignore[arg-type]
    futures = [windowed.submit(asked(i), plan) for i in range(5)]
    for ended in range(5):
        assert len(slow.futures) == min(5, ended + 2)
        slow.futures[ended].set_result(ended)
        assert futures[ended].result(0) == ended
    assert plan.hold.shared == 0


def test_a_worker_that_stops_fails_all_that_wait_however_many() -> None:
    slow, plan = Slow(), plan_of(FakeExtractor())
    windowed = Windowed(slow, PLENTY, at_once=1)  # type: ignore[arg-type]
    futures = [windowed.submit(asked(i), plan) for i in range(3000)]
    slow.failing = True
    slow.futures[0].set_exception(WorkerError("the device broke"))
    for future in futures:
        with pytest.raises(WorkerError):
            future.result(0)
    assert plan.hold.shared == 0


def test_images_from_many_threads_all_end() -> None:
    extractor = FakeExtractor()
    plan = plan_of(extractor)
    windowed = Windowed(extractor, PLENTY)  # type: ignore[arg-type]
    futures: list[Future[Any]] = []
    threads = [
        threading.Thread(target=lambda: futures.append(windowed.submit(asked(), plan)))
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(future.result(30).boxes) == 2 for future in futures)
    assert plan.hold.shared == 0


@pytest.mark.parametrize(
    ("request_", "rows"),
    [
        (asked(images=3), 6),
        (asked(windows=None, boxes=[[0.0, 0, 5, 5]], boxes_in_all=9, images=3), 9),
    ],
)
def test_an_answer_that_would_be_too_large_fails_before_anything_is_cut(
    request_: ImageRequest, rows: int
) -> None:
    extractor = FakeExtractor()
    plan = plan_of(extractor)
    size = rows * plan.bytes_per_image
    assert Windowed(extractor, size).submit(request_, plan).result(30)  # type: ignore[arg-type]
    refused = Windowed(extractor, size - 1).submit(request_, plan)  # type: ignore[arg-type]
    with pytest.raises(TooLarge, match=f"the features of {rows} boxes would be {size} bytes"):
        refused.result(30)


def test_a_box_outside_and_windows_that_are_none_are_the_image_s_own_error() -> None:
    extractor = FakeExtractor()
    plan = plan_of(extractor)
    windowed = Windowed(extractor, PLENTY)  # type: ignore[arg-type]
    outside = windowed.submit(asked(windows=None, boxes=[[50.0, 0, 60, 10]]), plan)
    with pytest.raises(InvalidImage, match="outside the image of 40 x 30"):
        outside.result(30)
    with pytest.raises(InvalidParameter):
        windowed.submit(asked(windows="nonsense"), plan)
    assert plan.hold.shared == 0

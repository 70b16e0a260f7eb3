from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from offshelf.core.batching import Lane
from offshelf.core.view import View
from offshelf.engine.extractor import Extractor
from offshelf.engine.interface import Output
from offshelf.engine.observer import Unobserved
from offshelf.errors import (
    DeadlineExceeded,
    DeviceLost,
    InvalidImage,
    InvalidParameter,
    TooLarge,
    UnknownName,
    WorkerError,
)
from offshelf.schemas import FeatureParams
from offshelf.settings import Settings
from tests.reference.pictures import encode
from tests.unit.engine.fakes import CARD, FakeEngine, FakeResident

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

SOON_S = 20.0
SETTINGS = Settings(default_backbone="fake", max_image_pixels=10_000, decode_threads=2)


@pytest.fixture
def extractor() -> Iterator[Extractor]:
    made = Extractor(FakeEngine(), SETTINGS)
    yield made
    made.close(5)


def grey(value: int) -> bytes:
    return encode(Image.new("RGB", (9, 7), (value, value, value)))


def fake_of(extractor: Extractor, params: FeatureParams) -> FakeResident:
    resident = extractor.resolve(params).resident
    assert isinstance(resident, FakeResident)
    return resident


def test_features_come_by_the_requested_names_in_the_taps_shape(extractor: Extractor) -> None:
    plan = extractor.resolve(FeatureParams(taps=["mean", "map", "penultimate"]))
    row = extractor.submit(grey(9), plan, Lane.INTERACTIVE).result(SOON_S)
    assert {tap: values.shape for tap, values in row.items()} == {
        "mean": (3,),
        "map": (3, 4, 4),
        "penultimate": (3,),
    }
    assert row["mean"].tolist() == [9, 9, 9]


def test_specs_are_canonical_and_carry_the_weights(extractor: Extractor) -> None:
    plan = extractor.resolve(
        FeatureParams(taps=["mean:pre", "penultimate"], view="warp", normalize="l2")
    )
    spec = plan.specs["penultimate"]
    assert (spec.tap, spec.pooling, spec.normalisation, spec.view) == ("map", "avg", "l2", "warp")
    assert (spec.backbone, spec.weights_digest) == ("fake", "d" * 64)
    assert spec.preprocessing == CARD.preprocessing
    assert plan.outputs["mean:pre"] == Output("mean:pre", "none", "l2")
    assert plan.view == View("warp")


@pytest.mark.parametrize(
    ("tap", "pool", "pooling"),
    [
        ("penultimate", None, "avg"),
        ("penultimate", "none", "none"),
        ("map", None, "none"),
        ("map", "grid:2:max", "grid:2"),
        ("mean", "avg", "none"),  # a vector has nothing to pool
    ],
)
def test_pooling_is_the_callers_or_the_aliass(
    extractor: Extractor, tap: str, pool: str | None, pooling: str
) -> None:
    plan = extractor.resolve(FeatureParams(taps=[tap], pool=pool))
    assert plan.specs[tap].pooling == plan.outputs[tap].pooling == pooling


@pytest.mark.parametrize(
    ("params", "error", "says"),
    [
        (FeatureParams(taps=["meen"]), UnknownName, "did you mean mean"),
        (FeatureParams(taps=["map:pre"]), InvalidParameter, "no ':pre'; these have: mean"),
        (FeatureParams(pool="sum"), InvalidParameter, "is not one of none, avg"),
        (FeatureParams(taps=["map"], pool="grid:5"), InvalidParameter, "more cells than tap"),
        (FeatureParams(backbone="nosuch"), UnknownName, "nosuch"),
    ],
)
def test_wrong_names_are_told_when_they_are_resolved(
    extractor: Extractor, params: FeatureParams, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        extractor.resolve(params)


def test_a_bad_image_fails_alone(extractor: Extractor) -> None:
    plan = extractor.resolve(FeatureParams(taps=["mean"]))
    images = [grey(1), b"no image", grey(3), encode(Image.new("L", (200, 200))), grey(5)]
    futures = [extractor.submit(image, plan, Lane.BULK) for image in images]
    assert [futures[i].result(SOON_S)["mean"][0] for i in (0, 2, 4)] == [1, 3, 5]
    with pytest.raises(InvalidImage):
        futures[1].result(SOON_S)
    with pytest.raises(TooLarge):
        futures[3].result(SOON_S)


def test_an_image_past_its_deadline_is_not_decoded() -> None:
    class Notes(Unobserved):
        count = 0

        def decoded(self, seconds: float) -> None:
            assert seconds >= 0
            self.count += 1

    notes = Notes()
    extractor = Extractor(FakeEngine(), SETTINGS, observer=notes, now=lambda: 100.0)
    plan = extractor.resolve(FeatureParams(taps=["mean"]))
    late = extractor.submit(grey(1), plan, Lane.INTERACTIVE, deadline_s=99.0)
    timely = extractor.submit(grey(2), plan, Lane.INTERACTIVE, deadline_s=101.0)
    with pytest.raises(DeadlineExceeded):
        late.result(SOON_S)
    assert timely.result(SOON_S)["mean"][0] == 2
    extractor.close(5)
    assert notes.count == 1


def test_a_cancelled_future_is_dropped(extractor: Extractor) -> None:
    params = FeatureParams(taps=["mean"])
    plan, fake = extractor.resolve(params), fake_of(extractor, params)
    fake.batches.clear()
    fake.gate.clear()
    running = extractor.submit(grey(1), plan, Lane.INTERACTIVE)
    for _ in range(3):  # the canary's two runs, and this one
        assert fake.entered.acquire(timeout=SOON_S)
    unwanted = extractor.submit(grey(2), plan, Lane.INTERACTIVE)
    wanted = extractor.submit(grey(3), plan, Lane.INTERACTIVE)
    assert unwanted.cancel()
    fake.gate.set()
    assert running.result(SOON_S)["mean"][0] == 1
    assert wanted.result(SOON_S)["mean"][0] == 3
    assert fake.batches == [[1], [3]]
    with pytest.raises(CancelledError):
        unwanted.result(0)


def test_close_finishes_what_was_submitted_and_refuses_the_rest() -> None:
    extractor = Extractor(FakeEngine(), SETTINGS)
    plan = extractor.resolve(FeatureParams(taps=["mean"]))
    futures = [extractor.submit(grey(i), plan, Lane(i % 2)) for i in range(100)]
    extractor.close(SOON_S)
    assert [f.result(0)["mean"][0] for f in futures] == list(range(100))
    with pytest.raises(WorkerError, match="stopping"):
        extractor.submit(grey(1), plan, Lane.BULK).result(0)


def test_close_in_a_hurry_leaves_nobody_waiting() -> None:
    extractor = Extractor(FakeEngine(), SETTINGS)
    params = FeatureParams(taps=["mean"])
    plan, fake = extractor.resolve(params), fake_of(extractor, params)
    fake.gate.clear()
    futures = [extractor.submit(grey(1), plan, Lane.BULK) for _ in range(300)]
    extractor.close(0.01)
    for future in futures:
        with pytest.raises(WorkerError):
            future.result(SOON_S)
    fake.gate.set()


def test_a_broken_device_fails_all_and_is_told() -> None:
    told = threading.Event()
    extractor = Extractor(FakeEngine(), SETTINGS, on_broken=lambda _error: told.set())
    params = FeatureParams(taps=["mean"])
    plan, fake = extractor.resolve(params), fake_of(extractor, params)

    def lost(*_: object) -> dict[Output, np.ndarray]:
        raise DeviceLost("gone")

    fake.behave = lost
    for _ in range(3):
        with pytest.raises(WorkerError):
            extractor.submit(grey(1), plan, Lane.INTERACTIVE).result(SOON_S)
    assert told.wait(SOON_S)
    with pytest.raises(WorkerError):
        extractor.canary(fake, SOON_S)
    extractor.close(5)


def test_the_canary_goes_through_the_device_thread(extractor: Extractor) -> None:
    params = FeatureParams(taps=["mean"])
    fake = fake_of(extractor, params)
    before = len(fake.batches)
    extractor.canary(fake, SOON_S)
    assert sum(len(batch) for batch in fake.batches[before:]) == 2
    fake.gate.clear()
    with pytest.raises(WorkerError, match="no canary"):
        extractor.canary(fake, 0.01)
    fake.gate.set()


@pytest.mark.parametrize(
    ("taps", "pool", "values"),
    [
        (["mean"], None, 3),
        (["map"], None, 48),
        (["map", "mean"], "avg", 6),
        (["map"], "grid:2", 12),
    ],
)
def test_a_plan_knows_how_large_its_features_are(
    extractor: Extractor, taps: list[str], pool: str | None, values: int
) -> None:
    assert extractor.resolve(FeatureParams(taps=taps, pool=pool)).bytes_per_image == 4 * values

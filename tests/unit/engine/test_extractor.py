from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from offshelf.core.batching import Lane
from offshelf.core.view import View
from offshelf.engine.extractor import Extractor
from offshelf.engine.interface import Output
from offshelf.engine.observer import Unobserved
from offshelf.engine.whitening import Whitening
from offshelf.errors import (
    DeadlineExceeded,
    DeviceLost,
    FingerprintMismatch,
    InvalidImage,
    InvalidParameter,
    TooLarge,
    UnknownName,
    WorkerError,
)
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference.pictures import encode
from tests.unit.engine.fakes import CARD, FakeEngine, FakeResident

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.core.spec import Merge

SOON_S = 20.0
DIGEST = "a" * 64
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
    assert spec.architecture == CARD.architecture == ""
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
        extractor.canaries(SOON_S)
    extractor.close(5)


def test_the_canary_goes_through_the_device_thread(extractor: Extractor) -> None:
    params = FeatureParams(taps=["mean"])
    fake = fake_of(extractor, params)
    before = len(fake.batches)
    extractor.canaries(SOON_S)
    assert sum(len(batch) for batch in fake.batches[before:]) == 2
    fake.gate.clear()
    with pytest.raises(WorkerError, match="no answer from the device"):
        extractor.canaries(0.01)
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


@pytest.mark.parametrize(
    ("view", "merge", "values"),
    [
        ("ten_crop", "mean", 3),
        ("ten_crop", "concat", 30),
        ("ten_crop", "stack", 30),
        ("five_crop+mirror", "stack", 30),
        ("center", "stack", 3),
    ],
)
def test_several_inputs_count_where_they_are_kept(
    extractor: Extractor, view: str, merge: Merge, values: int
) -> None:
    plan = extractor.resolve(FeatureParams(taps=["mean"], view=view, merge=merge))
    assert plan.bytes_per_image == 4 * values


@pytest.mark.parametrize(("pool", "values"), [("pyramid:1,2", 15), ("pyramid:2,4:avg", 60)])
def test_a_pyramid_counts_its_levels(extractor: Extractor, pool: str, values: int) -> None:
    plan = extractor.resolve(FeatureParams(taps=["map"], pool=pool))
    assert plan.bytes_per_image == 4 * values
    assert plan.specs["map"].pooling == pool
    with pytest.raises(InvalidParameter, match=r"pool pyramid:1,5 has more cells"):
        extractor.resolve(FeatureParams(taps=["map"], pool="pyramid:1,5"))


def test_dense_maps_are_averaged_unless_another_pooling_is_named(extractor: Extractor) -> None:
    for tap in ("map", "mean", "penultimate"):
        plan = extractor.resolve(FeatureParams(taps=[tap], view="dense:8,6"))
        assert plan.specs[tap].pooling == plan.outputs[tap].pooling == "avg", tap
        assert plan.specs[tap].view == "dense:8,6"
        assert plan.bytes_per_image == 4 * 3
        # Of the smallest scale's maps.
        plan = extractor.resolve(FeatureParams(taps=[tap], view="dense:8,6", pool="grid:6"))
        assert plan.bytes_per_image == 4 * 3 * 36
        with pytest.raises(InvalidParameter, match="more cells than tap"):
            extractor.resolve(FeatureParams(taps=[tap], view="dense:8,6", pool="grid:7"))
        with pytest.raises(InvalidParameter, match="pool it by avg"):
            extractor.resolve(FeatureParams(taps=[tap], view="dense:8,6", pool="none"))


def test_a_scale_below_the_input_is_told_when_it_is_resolved(extractor: Extractor) -> None:
    with pytest.raises(InvalidParameter, match="side 3 is below the network's input of 4"):
        extractor.resolve(FeatureParams(taps=["mean"], view="multi_scale:3"))


def whitening_of(params: FeatureParams) -> Whitening:
    """Three numbers to two, for the features of these parameters."""
    plain = Extractor(FakeEngine(), SETTINGS)
    spec = plain.resolve(params).specs[params.taps[0]]
    plain.close(5)
    made = Whitening.of(np.zeros(3, np.float32), np.eye(2, 3, dtype=np.float32), spec)
    return replace(made, digest=DIGEST)


def test_a_whitening_is_fetched_once_and_goes_with_its_output() -> None:
    fetched: list[str] = []
    made = whitening_of(FeatureParams(taps=["mean"], normalize="l2", view="ten_crop"))

    def fetch(digest: str) -> Whitening:
        fetched.append(digest)
        return made

    extractor = Extractor(FakeEngine(), SETTINGS, whitenings=fetch)
    chain = f"l2,whiten:{DIGEST},l2,power:2"
    for merge in ("mean", "mean"):
        params = FeatureParams(taps=["mean"], view="ten_crop", normalize=chain, merge=merge)
        plan = extractor.resolve(params)
        assert plan.outputs["mean"].whitenings == (made,)
        assert plan.specs["mean"].normalisation == chain
        assert plan.bytes_per_image == 4 * 2
    assert fetched == [DIGEST]
    extractor.close(5)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (FeatureParams(taps=["mean"], normalize=f"whiten:{DIGEST}"), "normalisation: l2 != none"),
        (
            FeatureParams(taps=["mean:pre"], normalize=f"l2,whiten:{DIGEST}"),
            "tap: mean != mean:pre",
        ),
        (
            FeatureParams(taps=["mean"], view="ten_crop", normalize=f"l2,whiten:{DIGEST}"),
            "view: center != ten_crop",
        ),
    ],
)
def test_a_whitening_of_other_features_is_refused(params: FeatureParams, says: str) -> None:
    made = whitening_of(FeatureParams(taps=["mean"], normalize="l2"))
    extractor = Extractor(FakeEngine(), SETTINGS, whitenings=lambda _: made)
    with pytest.raises(FingerprintMismatch, match=says):
        extractor.resolve(params)
    extractor.close(5)


def test_without_a_store_there_are_no_whitenings(extractor: Extractor) -> None:
    with pytest.raises(UnknownName, match="no transform"):
        extractor.resolve(FeatureParams(taps=["mean"], normalize=f"whiten:{DIGEST}"))

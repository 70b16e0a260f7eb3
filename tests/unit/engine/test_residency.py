from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from offshelf.engine.canary import canary
from offshelf.engine.residency import Residency
from offshelf.errors import UnknownName, WorkerError
from tests.unit.engine.fakes import FakeEngine, FakeResident, mean_colours


def test_many_that_ask_at_once_share_one_load() -> None:
    gate, started = threading.Event(), threading.Event()

    def on_load() -> None:
        started.set()
        assert gate.wait(20)

    engine = FakeEngine(on_load)
    residency = Residency(engine)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(residency.get, "fake", None) for _ in range(8)]
        assert started.wait(20)
        assert residency.loaded() == {}
        gate.set()
        residents = {id(future.result(20)) for future in asked}
    assert len(residents) == 1
    assert engine.loads == [("fake", None)]


def test_other_weights_are_another_load() -> None:
    engine = FakeEngine()
    residency = Residency(engine)
    trained, seeded = residency.get("fake", None), residency.get("fake", "random:1")
    assert trained is not seeded
    assert residency.get("fake", "random:1") is seeded
    assert residency.loaded() == {("fake", None): trained, ("fake", "random:1"): seeded}


def test_what_has_another_card_by_now_is_loaded_anew_once() -> None:
    engine = FakeEngine()
    residency = Residency(engine)
    first = residency.get("fake", None)
    engine.outdated.append(first)
    assert not residency.has("fake", None)
    with ThreadPoolExecutor(8) as pool:
        got = {id(r) for r in pool.map(lambda _: residency.get("fake", None), range(8))}
    assert len(got) == 1
    assert id(first) not in got
    assert residency.has("fake", None)
    assert len(engine.loads) == 2


def test_a_failed_load_is_told_and_tried_anew() -> None:
    engine = FakeEngine()
    residency = Residency(engine)
    for _ in range(2):
        with pytest.raises(UnknownName):
            residency.get("nosuch", None)
    assert len(engine.loads) == 2
    assert residency.loaded() == {}


def test_a_backbone_that_fails_its_canary_is_not_kept() -> None:
    residency = Residency(FakeEngine(), check=lambda _resident: canary(broken))
    broken = FakeResident(lambda _, outputs: {o: np.full((1, 3), np.nan) for o in outputs})
    with pytest.raises(WorkerError, match="not finite"):
        residency.get("fake", None)
    assert residency.loaded() == {}


def test_the_canary_notices_features_that_change() -> None:
    drift = iter(range(1, 10))
    resident = FakeResident(
        lambda batch, outputs: {o: v + next(drift) for o, v in mean_colours(batch, outputs).items()}
    )
    with pytest.raises(WorkerError, match="differ from one run to the next"):
        canary(resident)
    canary(FakeResident())


def test_what_was_unused_longest_is_let_go_of_when_another_is_loaded() -> None:
    engine = FakeEngine()
    residency = Residency(engine, max_resident=2)
    first = residency.get("fake", "random:1")
    residency.get("fake", "random:2")
    residency.get("fake", "random:1")
    residency.get("fake", "random:3")
    assert set(residency.loaded()) == {("fake", "random:1"), ("fake", "random:3")}
    assert residency.get("fake", "random:1") is first
    assert (residency.has("fake", "random:2"), residency.has("fake", "random:3")) == (False, True)
    residency.get("fake", "random:2")
    assert [seed for _, seed in engine.loads] == ["random:1", "random:2", "random:3", "random:2"]


def test_a_seed_is_one_key_however_it_is_written() -> None:
    engine = FakeEngine()
    residency = Residency(engine)
    assert residency.get("fake", "random:01") is residency.get("fake", "random:1")
    assert engine.loads == [("fake", "random:1")]

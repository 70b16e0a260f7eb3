from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from offshelf.engine.canary import canary
from offshelf.engine.interface import Output
from offshelf.engine.observer import Unobserved
from offshelf.engine.residency import Hold, Residency
from offshelf.errors import TooLarge, UnknownName, WeightsMissing, WorkerError
from tests.unit.engine.fakes import MEAN, FakeEngine, FakeResident, mean_colours, pixels

SOON_S = 20.0


def held(residency: Residency, backbone: str, weights: str | None = None) -> Future[Hold]:
    """Ask on a thread of its own; until something is done about it the future may stay open."""
    future: Future[Hold] = Future()

    def ask() -> None:
        try:
            future.set_result(residency.hold(backbone, weights))
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            future.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return future


def until(condition: object) -> None:
    give_up_s = time.monotonic() + SOON_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up_s
        time.sleep(0.001)


def test_many_that_ask_at_once_share_one_load() -> None:
    gate, started = threading.Event(), threading.Event()

    def on_load() -> None:
        started.set()
        assert gate.wait(20)

    engine = FakeEngine(on_load)
    residency = Residency(engine, 10)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(residency.hold, "fake", None) for _ in range(8)]
        assert started.wait(20)
        assert (residency.loaded(), residency.coming()) == ({}, [("fake", None)])
        assert residency.hold_loaded("fake", None) is None
        gate.set()
        residents = {id(future.result(20).resident) for future in asked}
    assert len(residents) == 1
    assert engine.loads == [("fake", None)]


def test_other_weights_are_another_load_however_they_are_written() -> None:
    engine = FakeEngine()
    residency = Residency(engine, 10)
    trained, seeded = residency.hold("fake", None), residency.hold("fake", "random:1")
    assert trained.resident is not seeded.resident
    assert residency.hold("fake", "PINNED").resident is trained.resident
    assert residency.loaded() == {
        ("fake", None): trained.resident,
        ("fake", "random:1"): seeded.resident,
    }


def test_what_has_another_card_by_now_is_loaded_anew_once() -> None:
    engine = FakeEngine()
    residency = Residency(engine, 10)
    first = residency.hold("fake", None)
    engine.outdated.append(first.resident)
    assert residency.hold_loaded("fake", None) is None
    with ThreadPoolExecutor(8) as pool:
        got = {id(r.resident) for r in pool.map(lambda _: residency.hold("fake", None), range(8))}
    assert len(got) == 1
    assert id(first.resident) not in got
    assert residency.hold_loaded("fake", None) is not None
    assert len(engine.loads) == 2
    assert not engine.made[0].closed  # it is still held
    first.release()
    assert engine.made[0].closed


def test_a_failed_load_is_told_and_tried_anew() -> None:
    engine = FakeEngine()
    residency = Residency(engine, 10)
    for _ in range(2):
        with pytest.raises(UnknownName):
            residency.hold("nosuch", None)
    assert len(engine.loads) == 2
    assert residency.loaded() == {}


def test_a_backbone_that_fails_its_canary_is_not_kept() -> None:
    residency = Residency(FakeEngine(), 10, check=lambda _resident: canary(broken))
    broken = FakeResident(lambda _, outputs: {o: np.full((1, 3), np.nan) for o in outputs})
    with pytest.raises(WorkerError, match="not finite"):
        residency.hold("fake", None)
    assert residency.loaded() == {}


def test_the_canary_notices_features_that_change() -> None:
    drift = iter(range(1, 10))
    resident = FakeResident(
        lambda batch, outputs: {o: v + next(drift) for o, v in mean_colours(batch, outputs).items()}
    )
    with pytest.raises(WorkerError, match="differ from one run to the next"):
        canary(resident)
    canary(FakeResident())


def test_what_was_unused_longest_makes_room_before_the_next_load() -> None:
    engine = FakeEngine(sizes={"fake-a": 4, "fake-b": 3, "fake-c": 3})
    residency = Residency(engine, 8)
    for name in ("fake-a", "fake-b", "fake-a"):
        residency.hold(name, None).release()
    there: list[list[bool]] = []
    engine.on_load = lambda: there.append([one.closed for one in engine.made])
    residency.hold("fake-c", None)
    assert there == [[False, True]]
    assert set(residency.loaded()) == {("fake-a", None), ("fake-c", None)}
    assert engine.reclaimed == 3


def test_there_are_never_more_than_may_be() -> None:
    engine = FakeEngine()
    residency = Residency(engine, 1000, max_resident=2)
    for seed in (1, 2, 1, 3):
        residency.hold("fake", f"random:{seed}").release()
    assert set(residency.loaded()) == {("fake", "random:1"), ("fake", "random:3")}


def test_what_is_held_stays_until_it_is_let_go_of() -> None:
    engine = FakeEngine(sizes={"fake-a": 5, "fake-b": 5})
    residency = Residency(engine, 8)
    first = residency.hold("fake-a", None)
    second = first.share()
    coming = held(residency, "fake-b")
    until(lambda: residency.loaded() == {})  # closed to newcomers
    for hold in (first, second):
        assert not coming.done()
        assert not engine.made[0].closed
        hold.release()
        hold.release()  # a second time does nothing
    assert coming.result(SOON_S).resident is engine.made[1]
    assert engine.made[0].closed


def test_who_asks_for_what_is_leaving_waits_for_another_load_of_it() -> None:
    engine = FakeEngine(sizes={"fake-a": 5, "fake-b": 5})
    residency = Residency(engine, 8)
    first = residency.hold("fake-a", None)
    coming = held(residency, "fake-b")
    until(lambda: residency.loaded() == {})
    again = held(residency, "fake-a")
    first.release()
    coming.result(SOON_S).release()
    again.result(SOON_S).release()
    assert [name for name, _ in engine.loads] == ["fake-a", "fake-b", "fake-a"]


def test_a_turn_lasts_as_long_as_the_load_took() -> None:
    moment = [0.0]
    engine = FakeEngine(sizes={"fake-a": 5, "fake-b": 5})

    def slow() -> None:
        moment[0] += 7.0

    engine.on_load = slow
    residency = Residency(engine, 8, clock=lambda: moment[0])
    first = residency.hold("fake-a", None)
    coming = held(residency, "fake-b")
    until(lambda: residency.coming() == [("fake-b", None)])
    newcomer = residency.hold_loaded("fake-a", None)
    assert newcomer is not None
    moment[0] += 8.0
    newcomer.release()  # whoever waits looks at the clock again
    until(lambda: residency.loaded() == {})
    first.release()
    coming.result(SOON_S)


def test_what_is_larger_than_the_budget_is_refused_and_nothing_is_sent_away() -> None:
    engine = FakeEngine(sizes={"fake-a": 5, "fake-b": 50})
    residency = Residency(engine, 8)
    residency.hold("fake-a", None).release()
    with pytest.raises(TooLarge, match="OFFSHELF_MAX_DEVICE_BYTES"):
        residency.hold("fake-b", None)
    assert set(residency.loaded()) == {("fake-a", None)}


def test_nobody_has_to_leave_for_weights_that_are_not_there() -> None:
    engine = FakeEngine(sizes={"fake-a": 5, "fake-b": 5}, absent={"fake-b"})
    residency = Residency(engine, 8)
    residency.hold("fake-a", None).release()
    with pytest.raises(WeightsMissing):
        residency.hold("fake-b", None)
    assert set(residency.loaded()) == {("fake-a", None)}
    assert not engine.made[0].closed


def test_a_load_that_fails_gives_its_room_back() -> None:
    engine = FakeEngine(sizes={"nosuch": 8, "fake": 8})
    residency = Residency(engine, 8)
    with pytest.raises(UnknownName):
        residency.hold("nosuch", None)
    residency.hold("fake", None)


def test_the_canary_holds_what_it_looks_at() -> None:
    residency = Residency(FakeEngine(), 10)
    residency.hold("fake", None).release()
    (hold,) = residency.hold_all()
    with hold:
        assert isinstance(hold.resident, FakeResident)
    with pytest.raises(RuntimeError, match="released"):
        hold.share()


def test_loads_are_observed() -> None:
    class Notes(Unobserved):
        def __init__(self) -> None:
            self.told: list[str] = []

        def loaded(self, backbone: str, seconds: float) -> None:
            assert seconds >= 0
            self.told.append(f"+{backbone}")

        def let_go(self, backbone: str) -> None:
            self.told.append(f"-{backbone}")

    notes = Notes()
    residency = Residency(FakeEngine(), 1, notes)
    for name in ("fake-a", "fake-b"):
        residency.hold(name, None).release()
    assert notes.told == ["+fake-a", "-fake-a", "+fake-b"]


def test_peers_trap_two_backbones_and_room_for_one_serve_32_threads() -> None:
    engine = FakeEngine(sizes={"fake-a": 5, "fake-b": 5})
    residency = Residency(engine, 8)

    def client(seed: int) -> int:
        choose = np.random.default_rng(seed)
        for _ in range(50):
            name = ("fake-a", "fake-b")[choose.integers(2)]
            with residency.hold(name, None) as hold:
                value = int(choose.integers(256))
                (found,) = hold.resident.forward([(pixels(value),)], [MEAN])[Output("mean")]
                assert found[0] == value
                assert sum(not one.closed for one in engine.made) == 1
        return 50

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(client, range(32), timeout=60)) == 1600
    assert 2 <= len(engine.loads) < 1600

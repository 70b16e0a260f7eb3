from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future, wait
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offshelf.core.batching import Lane, Policy
from offshelf.engine.batcher import Batcher, Item
from offshelf.engine.observer import Unobserved
from offshelf.errors import DeadlineExceeded, DeviceLost, WorkerError
from tests.unit.engine.fakes import MEAN, FakeResident, mean_colours, pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from offshelf.engine.interface import Features, Output, Pixels

SOON_S = 20.0
POLICY = Policy(max_inputs=8, linger_s=0.0, bulk_bound_s=60.0, starve_s=60.0)


@pytest.fixture
def resident() -> FakeResident:
    return FakeResident()


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(POLICY)
    yield made
    made.close(5)


def item(resident: FakeResident, value: int, lane: Lane = Lane.INTERACTIVE, **more: Any) -> Item:
    return Item((pixels(value),), resident, (MEAN,), lane, **more)


def value_of(future: Future[Any]) -> float:
    return float(future.result(SOON_S)[MEAN][0])


def held(batcher: Batcher, resident: FakeResident) -> Future[Any]:
    """Keep the device busy with an item of value 0 until the gate opens."""
    resident.gate.clear()
    future = batcher.submit(item(resident, 0))
    assert resident.entered.acquire(timeout=SOON_S)
    return future


def test_a_lone_item_gets_its_rows(batcher: Batcher, resident: FakeResident) -> None:
    assert value_of(batcher.submit(item(resident, 7))) == 7


def test_an_item_of_several_inputs_counts_as_so_many(resident: FakeResident) -> None:
    batcher = Batcher(Policy(max_inputs=10, linger_s=0, bulk_bound_s=60, starve_s=60))
    held(batcher, resident)
    futures = [
        batcher.submit(Item((pixels(v, count=5),), resident, (MEAN,), Lane.INTERACTIVE))
        for v in (1, 2, 3)
    ]
    resident.gate.set()
    assert [f.result(SOON_S)[MEAN].shape for f in futures] == [(5, 3)] * 3
    assert resident.batches == [[0], [1, 2], [3]]
    batcher.close(5)


def test_a_larger_input_counts_by_its_area(resident: FakeResident) -> None:
    def size(*stacks: np.ndarray) -> int:
        return Item(stacks, resident, (MEAN,), Lane.BULK).size

    assert size(pixels(1)) == 1
    assert size(pixels(1, 2), np.zeros((1, 8, 8, 3), np.uint8)) == 6
    assert size(np.zeros((1, 4, 5, 3), np.uint8)) == 2
    assert size(np.zeros((1, 1, 1, 3), np.uint8)) == 1


def test_what_waits_meanwhile_makes_one_batch_in_order(
    batcher: Batcher, resident: FakeResident
) -> None:
    first = held(batcher, resident)
    futures = [batcher.submit(item(resident, value)) for value in range(1, 7)]
    resident.gate.set()
    assert [value_of(f) for f in (first, *futures)] == list(range(7))
    assert resident.batches == [[0], [1, 2, 3, 4, 5, 6]]


def test_batches_stay_within_the_limit(batcher: Batcher, resident: FakeResident) -> None:
    held(batcher, resident)
    futures = [batcher.submit(item(resident, value)) for value in range(1, 21)]
    resident.gate.set()
    assert [value_of(f) for f in futures] == list(range(1, 21))
    assert [len(batch) for batch in resident.batches] == [1, 8, 8, 4]


def test_networks_and_outputs_are_not_mixed(batcher: Batcher, resident: FakeResident) -> None:
    other = FakeResident()
    held(batcher, resident)
    futures = [batcher.submit(item((resident, other)[v % 2], v)) for v in range(1, 7)]
    resident.gate.set()
    assert [value_of(f) for f in futures] == list(range(1, 7))
    assert (resident.batches, other.batches) == ([[0], [2, 4, 6]], [[1, 3, 5]])


def test_interactive_runs_before_bulk_that_came_first(resident: FakeResident) -> None:
    batcher = Batcher(Policy(max_inputs=1, linger_s=0, starve_s=60))
    held(batcher, resident)
    bulk = [batcher.submit(item(resident, v, Lane.BULK)) for v in (1, 2)]
    urgent = batcher.submit(item(resident, 9))
    resident.gate.set()
    wait([*bulk, urgent], SOON_S)
    assert resident.batches == [[0], [9], [1], [2]]
    batcher.close(5)


def test_it_waits_a_moment_for_what_is_being_prepared(resident: FakeResident) -> None:
    batcher = Batcher(Policy(linger_s=SOON_S))
    for _ in range(3):
        batcher.expect(Lane.INTERACTIVE)
    futures = []
    for value in (1, 2, 3):
        futures.append(batcher.submit(item(resident, value)))
        batcher.unexpect(Lane.INTERACTIVE)
    assert [value_of(f) for f in futures] == [1, 2, 3]
    assert resident.batches == [[1, 2, 3]]
    batcher.close(5)


def test_it_does_not_wait_for_what_will_not_come(resident: FakeResident) -> None:
    batcher = Batcher(Policy(linger_s=1_000))
    batcher.expect(Lane.INTERACTIVE)
    future = batcher.submit(item(resident, 1))
    batcher.unexpect(Lane.INTERACTIVE)
    assert value_of(future) == 1
    batcher.close(5)


def failing_on(
    *culprits: int,
) -> Callable[[Pixels, Sequence[Output]], dict[Output, Features]]:
    def behave(batch: Pixels, outputs: Sequence[Output]) -> dict[Output, Features]:
        if set(batch[:, 0, 0, 0].tolist()) & set(culprits):
            raise RuntimeError("out of memory")
        return mean_colours(batch, outputs)

    return behave


@pytest.mark.parametrize("culprits", [(3,), (1,), (8,), (2, 7)])
def test_only_the_culprit_fails(
    batcher: Batcher, resident: FakeResident, culprits: tuple[int, ...]
) -> None:
    resident.behave = failing_on(*culprits)
    held(batcher, resident)
    futures = {value: batcher.submit(item(resident, value)) for value in range(1, 9)}
    resident.gate.set()
    for value, future in futures.items():
        if value in culprits:
            with pytest.raises(WorkerError, match="out of memory"):
                future.result(SOON_S)
        else:
            assert value_of(future) == value
    assert resident.batches[1] == list(range(1, 9))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_fail_their_item_alone(
    batcher: Batcher, resident: FakeResident, poison: float
) -> None:
    def behave(batch: Pixels, outputs: Sequence[Output]) -> dict[Output, Features]:
        rows = mean_colours(batch, outputs)
        rows[MEAN][batch[:, 0, 0, 0] == 2, 1] = poison
        return rows

    resident.behave = behave
    held(batcher, resident)
    futures = [batcher.submit(item(resident, value)) for value in (1, 2, 3)]
    resident.gate.set()
    assert value_of(futures[0]) == 1
    assert value_of(futures[2]) == 3
    with pytest.raises(WorkerError, match="not finite at mean"):
        futures[1].result(SOON_S)


def test_a_wrong_number_of_rows_is_noticed(batcher: Batcher, resident: FakeResident) -> None:
    resident.behave = lambda batch, outputs: mean_colours(batch[:-1], outputs)
    with pytest.raises(WorkerError, match="mean: 0 rows for 1 images"):
        batcher.submit(item(resident, 1)).result(SOON_S)


def test_a_missing_output_is_noticed(batcher: Batcher, resident: FakeResident) -> None:
    resident.behave = lambda _batch, _outputs: {}
    with pytest.raises(WorkerError, match="mean: no rows for 1 images"):
        batcher.submit(item(resident, 1)).result(SOON_S)


@pytest.mark.parametrize(
    "error", [DeviceLost("cuda:0 fell off the bus"), SystemExit(1), KeyboardInterrupt()]
)
def test_when_the_device_breaks_nobody_waits_for_ever(
    resident: FakeResident, error: BaseException
) -> None:
    told: Future[BaseException] = Future()
    batcher = Batcher(POLICY, on_broken=told.set_result)

    def behave(_batch: Pixels, _outputs: Sequence[Output]) -> dict[Output, Features]:
        raise error

    running = held(batcher, resident)
    resident.behave = behave
    waiting = [batcher.submit(item(resident, v, Lane(v % 2))) for v in range(1, 30)]
    resident.gate.set()
    for future in (running, *waiting):
        with pytest.raises(WorkerError):
            future.result(SOON_S)
    assert told.result(SOON_S) is error
    late = batcher.submit(item(resident, 1))
    with pytest.raises(WorkerError, match="broken"):
        late.result(0)
    batcher.close(5)


def test_an_item_past_its_deadline_is_not_run(resident: FakeResident) -> None:
    moment = [100.0]
    batcher = Batcher(POLICY, now=lambda: moment[0])
    held(batcher, resident)
    late = batcher.submit(item(resident, 1, deadline_s=101.0))
    timely = batcher.submit(item(resident, 2, deadline_s=103.0))
    moment[0] = 102.0
    resident.gate.set()
    assert value_of(timely) == 2
    with pytest.raises(DeadlineExceeded):
        late.result(SOON_S)
    assert resident.batches == [[0], [2]]
    batcher.close(5)


def test_a_cancelled_item_is_not_run(batcher: Batcher, resident: FakeResident) -> None:
    held(batcher, resident)
    unwanted, wanted = (batcher.submit(item(resident, v)) for v in (1, 2))
    assert unwanted.cancel()
    resident.gate.set()
    assert value_of(wanted) == 2
    assert resident.batches == [[0], [2]]
    with pytest.raises(CancelledError):
        unwanted.result(0)


def test_what_runs_cannot_be_cancelled(batcher: Batcher, resident: FakeResident) -> None:
    running = held(batcher, resident)
    assert not running.cancel()
    resident.gate.set()
    assert value_of(running) == 0


def test_close_runs_what_waits_and_refuses_what_comes(resident: FakeResident) -> None:
    batcher = Batcher(POLICY)
    held(batcher, resident)
    waiting = [batcher.submit(item(resident, value, Lane.BULK)) for value in range(1, 20)]
    resident.gate.set()
    batcher.close(SOON_S)
    assert all(future.done() for future in waiting)
    assert [value_of(f) for f in waiting] == list(range(1, 20))
    with pytest.raises(WorkerError, match="stopping"):
        batcher.submit(item(resident, 1)).result(0)


def test_close_does_not_wait_for_a_device_that_hangs(resident: FakeResident) -> None:
    batcher = Batcher(POLICY)
    running = held(batcher, resident)
    waiting = batcher.submit(item(resident, 1))
    began_s = time.monotonic()
    batcher.close(0.05)
    assert time.monotonic() - began_s < SOON_S / 2
    for future in (running, waiting):
        with pytest.raises(WorkerError, match="stopped before"):
            future.result(0)
    resident.gate.set()


def test_a_callback_that_raises_harms_nobody(batcher: Batcher, resident: FakeResident) -> None:
    def broken(_rows: object) -> None:
        raise KeyError("deliver")

    with pytest.raises(WorkerError, match="deliver"):
        batcher.submit(item(resident, 1, deliver=broken)).result(SOON_S)
    assert value_of(batcher.submit(item(resident, 2))) == 2


def test_bulk_batches_grow_to_what_the_measured_cost_allows(resident: FakeResident) -> None:
    moment = [0.0]

    def behave(batch: Pixels, outputs: Sequence[Output]) -> dict[Output, Features]:
        moment[0] += 0.01 * len(batch)  # 10 ms an input
        return mean_colours(batch, outputs)

    resident.behave = behave
    policy = Policy(max_inputs=64, linger_s=0, bulk_bound_s=0.2, starve_s=60)
    batcher = Batcher(policy, clock=lambda: moment[0])
    held(batcher, resident)
    futures = [batcher.submit(item(resident, v, Lane.BULK)) for v in range(1, 61)]
    resident.gate.set()
    wait(futures, SOON_S)
    assert [len(batch) for batch in resident.batches[1:]] == [2, 4, 8, 16, 20, 10]
    batcher.close(5)


def test_waiting_and_running_are_observed(resident: FakeResident) -> None:
    class Notes(Unobserved):
        def __init__(self) -> None:
            self.ran_: list[tuple[str, int, bool]] = []
            self.lanes: list[Lane] = []

        def ran(self, backbone: str, inputs: int, seconds: float) -> None:
            self.ran_.append((backbone, inputs, seconds >= 0))

        def waited(self, lane: Lane, seconds: float) -> None:
            assert seconds >= 0
            self.lanes.append(lane)

    notes = Notes()
    batcher = Batcher(POLICY, observer=notes)
    value_of(batcher.submit(item(resident, 1, Lane.BULK)))
    batcher.close(5)
    assert notes.ran_ == [("fake", 1, True)]
    assert notes.lanes == [Lane.BULK]

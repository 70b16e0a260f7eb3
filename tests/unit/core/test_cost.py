from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.cost import Cost

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND_S = 0.05


def driven(
    seconds: Callable[[int], float], batches: int = 60, first: int = 8, beside: int = 0
) -> tuple[Cost, list[int]]:
    """Batches as large as the cost lets them be, each `beside`-th followed by one of one input."""
    cost, sizes = Cost(first, seconds(first)), []
    for number in range(batches):
        sizes.append(cost.inputs_within(BOUND_S))
        cost.learn(sizes[-1], seconds(sizes[-1]))
        if beside and number % beside == 0:
            cost.learn(1, seconds(1))
    return cost, sizes


@given(st.floats(0, 0.04), st.floats(0.0005, 0.02), st.integers(0, 4))
def test_batches_come_to_fill_the_bound_and_hardly_exceed_it(
    base: float, slope: float, beside: int
) -> None:
    """Of a device with a cost a batch and a cost an input; one input more is tried at times."""
    fit = max(1, int((BOUND_S - base) / slope + 1e-9))
    _, sizes = driven(lambda n: base + slope * n, beside=beside)
    settled = sizes[30:]
    assert max(settled) <= fit + 1
    assert sum(settled) / len(settled) >= fit - 1.01 or max(settled) == fit


def test_a_batch_of_one_is_no_trap() -> None:
    """30 ms for one input and 2 ms for each more: by the input, one would be all that fits."""
    _, sizes = driven(lambda n: 0.028 + 0.002 * n, first=1)
    assert max(sizes) in {10, 11, 12}
    assert min(sizes[20:]) >= 9


def test_single_inputs_beside_do_not_shrink_the_batches() -> None:
    def seconds(n: int) -> float:
        return 0.010 + 0.004 * n

    _, alone = driven(seconds)
    _, mixed = driven(seconds, beside=1)
    assert sum(mixed[20:]) >= 0.95 * sum(alone[20:])


def test_where_one_is_too_much_it_stays_at_one_and_tries_two_never() -> None:
    _, sizes = driven(lambda n: 0.2 * n)
    assert set(sizes) == {1}


def test_a_single_spike_changes_little() -> None:
    cost, sizes = driven(lambda n: 0.01 * n)
    before = sizes[-1]
    cost.learn(before, 2.0)
    assert cost.inputs_within(BOUND_S) >= before // 2
    for _ in range(20):
        size = cost.inputs_within(BOUND_S)
        cost.learn(size, 0.01 * size)
    assert cost.inputs_within(BOUND_S) >= before - 1


def test_a_device_that_became_slower_is_followed() -> None:
    cost, _ = driven(lambda n: 0.001 * n)
    assert cost.inputs_within(BOUND_S) >= 40
    for _ in range(40):
        size = cost.inputs_within(BOUND_S)
        cost.learn(size, 0.01 * size)
    assert 4 <= cost.inputs_within(BOUND_S) <= 6


def test_noise_does_not_make_it_overshoot_far() -> None:
    chance = random.Random(0)
    _, sizes = driven(lambda n: (0.005 + 0.005 * n) * chance.uniform(0.8, 1.3), batches=300)
    settled = sizes[30:]
    assert max(settled) <= 2 * 9
    assert 6 <= sum(settled) / len(settled) <= 10


def test_growth_is_bounded_by_what_was_tried() -> None:
    assert Cost(8, 0.0001).inputs_within(10.0) == 16
    assert Cost(1, 0.0001).inputs_within(10.0) == 2


def test_seconds_lie_on_the_line() -> None:
    cost = Cost(2, 0.014)
    for inputs in (4, 8, 2, 6):
        cost.learn(inputs, 0.01 + 0.002 * inputs)
    assert cost.seconds(5) == pytest.approx(0.02)


def test_where_the_seconds_vary_few_batches_exceed_the_bound() -> None:
    chance, over = random.Random(0), 0
    cost = Cost(4, 0.02)
    for _ in range(400):
        size = cost.inputs_within(BOUND_S)
        seconds = (0.005 + 0.002 * size) * chance.uniform(0.7, 1.3)
        over += seconds > BOUND_S
        cost.learn(size, seconds)
    assert over <= 400 // 4

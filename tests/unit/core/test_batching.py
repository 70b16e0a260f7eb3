from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.batching import Lane, Policy, Run, Waiting, WaitUntil, decide
from offshelf.core.cost import Cost

POLICY = Policy(max_inputs=8, linger_s=0.004, bulk_bound_s=0.05, starve_s=1.0)
FIVE_FIT = Cost(5, 0.05)  # five bulk inputs fill the bound
ONE = {"a": FIVE_FIT, "b": FIVE_FIT}
NOW, BULK = Lane.INTERACTIVE, Lane.BULK


def queue(*items: tuple[Lane, str, float]) -> list[Waiting]:
    return [Waiting(lane, key, at) for lane, key, at in items]


def test_an_empty_queue_waits_for_a_change() -> None:
    assert decide([], 0, POLICY, {}) == WaitUntil(None)


def test_a_lone_item_runs_at_once() -> None:
    assert decide(queue((NOW, "a", 0)), 0, POLICY, ONE) == Run((0,))


def test_it_lingers_only_while_more_of_its_lane_is_coming() -> None:
    lone = queue((NOW, "a", 0.0))
    assert decide(lone, 0.001, POLICY, ONE, {NOW: 1}) == WaitUntil(0.004)
    assert decide(lone, 0.004, POLICY, ONE, {NOW: 1}) == Run((0,))
    assert decide(lone, 0.001, POLICY, ONE, {BULK: 100}) == Run((0,))


def test_a_full_batch_does_not_linger() -> None:
    full = queue(*[(NOW, "a", 0.0)] * 8)
    assert decide(full, 0, POLICY, ONE, {NOW: 5}) == Run(tuple(range(8)))
    bulk = queue(*[(BULK, "a", 0.0)] * 5)
    assert decide(bulk, 0, POLICY, ONE, {BULK: 5}) == Run(tuple(range(5)), BULK)


def test_interactive_goes_first_and_bulk_fills_up_to_half_its_bound() -> None:
    mixed = queue(*[(BULK, "a", 0.0)] * 8, (NOW, "a", 0.1))
    assert decide(mixed, 0.1, POLICY, ONE) == Run((0, 8))
    mixed = queue(*[(BULK, "a", 0.0)] * 8, (NOW, "a", 0.1), (NOW, "a", 0.1))
    assert decide(mixed, 0.1, POLICY, ONE) == Run((8, 9))


def test_interactive_alone_may_exceed_the_bulk_bound() -> None:
    many = queue(*[(NOW, "a", 0.0)] * 7, (BULK, "a", 0.0))
    assert decide(many, 0.1, POLICY, ONE) == Run(tuple(range(7)))


def test_bulk_of_unknown_cost_starts_with_a_few() -> None:
    many = queue(*[(BULK, "a", 0.0)] * 20)
    wide = Policy(max_inputs=64)
    assert decide(many, 0.1, wide, {}) == Run(tuple(range(8)), BULK)


def test_a_cost_above_the_bound_still_runs_one() -> None:
    assert decide(queue(*[(BULK, "a", 0.0)] * 3), 0, POLICY, {"a": Cost(1, 9.0)}) == Run((0,), BULK)


def test_starved_bulk_gets_a_batch_before_interactive_of_another_key() -> None:
    mixed = queue((BULK, "b", 0.0), (NOW, "a", 0.9))
    assert decide(mixed, 0.999, POLICY, ONE) == Run((1,))
    assert decide(mixed, 1.0, POLICY, ONE) == Run((0,), BULK)


def test_an_item_above_every_limit_runs_alone() -> None:
    big = [Waiting(NOW, "a", 0.0, inputs=50), Waiting(NOW, "a", 0.0)]
    assert decide(big, 0, POLICY, ONE) == Run((0,))


WAITING = st.builds(
    Waiting,
    lane=st.sampled_from(Lane),
    key=st.sampled_from("ab"),
    arrived_s=st.floats(0, 10),
    inputs=st.integers(1, 5),
)
QUEUES = st.lists(WAITING, min_size=1, max_size=40).map(
    lambda items: sorted(items, key=lambda item: item.arrived_s)
)
COSTS = st.dictionaries(
    st.sampled_from("ab"), st.builds(Cost, st.integers(1, 8), st.floats(1e-3, 1))
)


@given(QUEUES, COSTS)
def test_no_batch_mixes_keys_or_exceeds_a_limit(
    items: list[Waiting], costs: dict[str, Cost]
) -> None:
    decision = decide(items, 20, POLICY, costs)
    assert isinstance(decision, Run)
    batch = [items[i] for i in decision.indices]
    assert list(decision.indices) == sorted(set(decision.indices))
    assert len({item.key for item in batch}) == 1
    inputs = sum(item.inputs for item in batch)
    assert inputs <= POLICY.max_inputs or len(batch) == 1
    if any(item.lane is BULK for item in batch) and batch[0].key in costs:
        assert inputs <= costs[batch[0].key].inputs_within(POLICY.bulk_bound_s) or len(batch) == 1


@given(QUEUES.map(lambda items: items[:12]), COSTS, st.floats(0.05, 0.5))
def test_nobody_starves_even_while_interactive_items_keep_coming(
    items: list[Waiting], costs: dict[str, Cost], run_s: float
) -> None:
    waiting, now_s, bulk_turn_s = list(items), 10.0, -math.inf
    # At worst each item is a batch: interactive ones in turn, bulk ones once in starve_s.
    until_s = now_s + len(items) * (POLICY.starve_s + 3 * run_s)
    while any(item in items for item in waiting):
        assert now_s <= until_s, "items of the start are still waiting"
        decision = decide(waiting, now_s, POLICY, costs, {}, bulk_turn_s)
        assert isinstance(decision, Run)
        waiting = [item for i, item in enumerate(waiting) if i not in decision.indices]
        now_s += run_s
        bulk_turn_s = now_s if decision.lane is BULK else bulk_turn_s
        waiting.append(Waiting(NOW, "a", now_s))


def test_a_long_bulk_backlog_takes_one_turn_and_then_interactive_goes_first() -> None:
    backlog = queue(*[(BULK, "b", 0.0)] * 50, (NOW, "a", 60.0))
    first = decide(backlog, 60.0, POLICY, ONE)
    assert first == Run((0, 1, 2, 3, 4), BULK)
    assert decide(backlog[5:], 60.05, POLICY, ONE, {}, 60.05) == Run((45,), NOW)


@given(QUEUES, COSTS)
def test_the_oldest_of_its_lane_is_in_every_batch(
    items: list[Waiting], costs: dict[str, Cost]
) -> None:
    decision = decide(items, 20, POLICY, costs)
    assert isinstance(decision, Run)
    oldest = {lane: next((i for i, x in enumerate(items) if x.lane is lane), None) for lane in Lane}
    assert set(oldest.values()) & set(decision.indices)


def test_a_company_runs_whole_and_alone_whatever_the_limits() -> None:
    friends = [Waiting(BULK, "a", 0.0, inputs=3, company=7) for _ in range(5)]
    others = queue((BULK, "a", 0.0), (BULK, "a", 0.0))
    mixed = [*friends[:2], others[0], *friends[2:], others[1]]
    assert decide(mixed, 0, POLICY, {"a": 9.0}, {BULK: 9}) == Run((0, 1, 3, 4, 5), BULK)


def test_nobody_joins_those_who_have_company() -> None:
    lone, friend = Waiting(BULK, "a", 0.0), Waiting(BULK, "a", 0.0, company=7)
    assert decide([lone, friend, lone], 0, POLICY, ONE) == Run((0, 2), BULK)
    now = Waiting(NOW, "a", 0.5)
    assert decide([friend, now], 0.5, POLICY, ONE) == Run((1,))

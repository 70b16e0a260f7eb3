"""Which waiting items the device runs next: a pure function of the queue and the clock.

Interactive items go first. Bulk items fill what is left of a batch, and once in `starve_s` they
get a batch of their own if they wait that long, so that neither lane can starve the other. A
batch that holds bulk items is bounded in time (`bulk_bound_s`, by what batches were seen to cost),
because an interactive item that arrives meanwhile must wait for its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from offshelf.core.cost import Cost


class Lane(IntEnum):
    """Who waits: a client on the line, or a job."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """One item as the policy sees it. `key`: only items of one key can share a batch.

    Those of a `company`, which come all at once, run together and nobody else with them.
    """

    lane: Lane
    key: Hashable
    arrived_s: float
    inputs: int = 1
    company: Hashable = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of a batch. `max_inputs` counts network inputs, not images."""

    max_inputs: int = 64
    linger_s: float = 0.004
    bulk_bound_s: float = 0.050
    starve_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """Run these items (indices into the queue) as one batch; `lane` is whose turn it is."""

    indices: tuple[int, ...]
    lane: Lane = Lane.INTERACTIVE


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing to run before `at_s`; None: not before the queue changes."""

    at_s: float | None


Decision: TypeAlias = Run | WaitUntil


def decide(
    queue: Sequence[Waiting],
    now_s: float,
    policy: Policy,
    costs: Mapping[Hashable, Cost],
    coming: Mapping[Lane, int] | None = None,
    bulk_turn_s: float = -math.inf,
) -> Decision:
    """Choose the next batch from `queue` (in order of arrival).

    `costs` has what is known of the keys that ran before. `coming` counts items that are being
    decoded, by lane: only while there are any of the lane is it worth lingering for a fuller
    batch, so an idle server answers a lone request at once.
    `bulk_turn_s` is when the last batch ended that was bulk's turn. A single item above a limit
    runs alone.
    """
    if not queue:
        return WaitUntil(None)
    first = _first(queue, now_s, policy, bulk_turn_s)
    lane, key, company = queue[first].lane, queue[first].key, queue[first].company
    if company is not None:
        return Run(tuple(i for i, item in enumerate(queue) if item.company == company), lane)
    bulk_limit = _bulk_inputs(policy, lane, costs.get(key))
    chosen = _fill(queue, first, policy.max_inputs, bulk_limit)
    limit = bulk_limit if lane is Lane.BULK else policy.max_inputs
    full = sum(queue[i].inputs for i in chosen) >= limit
    linger_until_s = queue[first].arrived_s + policy.linger_s
    if (coming or {}).get(lane, 0) > 0 and not full and now_s < linger_until_s:
        return WaitUntil(linger_until_s)
    return Run(chosen, lane)


def _first(queue: Sequence[Waiting], now_s: float, policy: Policy, bulk_turn_s: float) -> int:
    """The item that the batch is built around."""
    oldest: dict[Lane, int] = {}
    for index, item in enumerate(queue):
        oldest.setdefault(item.lane, index)
    interactive, bulk = oldest.get(Lane.INTERACTIVE), oldest.get(Lane.BULK)
    if interactive is None or bulk is None:
        return bulk if interactive is None else interactive  # type: ignore[return-value]  # one is set
    starved = now_s - max(queue[bulk].arrived_s, bulk_turn_s) >= policy.starve_s
    return bulk if starved else interactive


def _fill(
    queue: Sequence[Waiting], first: int, max_inputs: int, bulk_limit: int
) -> tuple[int, ...]:
    """`first`, then interactive, then bulk items of its key, while they fit."""
    key = queue[first].key
    mates = [
        i for i, item in enumerate(queue) if item.key == key and item.company is None and i != first
    ]
    mates.sort(key=lambda i: queue[i].lane)
    chosen, inputs = [first], queue[first].inputs
    for index in mates:
        item = queue[index]
        limit = bulk_limit if Lane.BULK in (item.lane, queue[first].lane) else max_inputs
        if inputs + item.inputs <= limit:
            chosen.append(index)
            inputs += item.inputs
    return tuple(sorted(chosen))


def _bulk_inputs(policy: Policy, lane: Lane, cost: Cost | None) -> int:
    """How many inputs a batch with bulk items may hold; a few until the cost is known.

    Bulk items that ride along with interactive ones get half of the bound: whoever waits has
    waited for a batch already, half of a bound on average.
    """
    if cost is None:
        return min(8, policy.max_inputs)
    bound_s = policy.bulk_bound_s if lane is Lane.BULK else policy.bulk_bound_s / 2
    return min(policy.max_inputs, cost.inputs_within(bound_s))

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.errors import DependencyError
from offshelf.worker import content_cache
from offshelf.worker.content_cache import ContentCache
from offshelf.worker.metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TAPS = {"fc6": "6" * 64, "fc7": "7" * 64}


class DictValues:
    """`cache.interface.Values` in a dict; counts round trips; `away` fails them."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.trips = 0
        self.away = False
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()
        self.written = threading.Event()

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.trips += 1
        if self.away:
            raise DependencyError("away")
        return [self.held.get(key) for key in keys]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        assert self.gate.wait(20)
        if self.away:
            raise DependencyError("away")
        self.held.update(values)
        self.written.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def values() -> DictValues:
    return DictValues()


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics()


@pytest.fixture
def cache(values: DictValues, metrics: WorkerMetrics) -> Iterator[ContentCache]:
    made = ContentCache(values, metrics)
    yield made
    made.close(5)


def features(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "fc6": random.normal(size=(4,)).astype(np.float32),
        "fc7": np.float32(seed) * np.ones(2, np.float32),
    }


def outcomes(metrics: WorkerMetrics) -> tuple[float, float]:
    found = [
        metrics.registry.get_sample_value("offshelf_cache_total", {"outcome": one})
        for one in ("hit", "miss")
    ]
    return found[0] or 0.0, found[1] or 0.0


def test_what_is_kept_is_found_in_one_round_trip(
    cache: ContentCache, values: DictValues, metrics: WorkerMetrics
) -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    contents = [("a" * 64, None), ("a" * 64, box), ("b" * 64, None)]
    cache.keep(TAPS, [(contents[0], features(1)), (contents[1], features(2))])
    cache.close(5)
    assert values.closed
    found = cache.find(TAPS, contents)
    assert values.trips == 1
    for one, wanted in zip(found, (features(1), features(2)), strict=False):
        assert one is not None
        assert {tap: row.tobytes() for tap, row in one.items()} == {
            tap: row.tobytes() for tap, row in wanted.items()
        }
    assert found[2] is None
    assert outcomes(metrics) == (2, 1)


def test_one_tap_of_two_is_a_miss(cache: ContentCache) -> None:
    cache.keep({"fc6": TAPS["fc6"]}, [(("a", None), {"fc6": features(1)["fc6"]})])
    cache.close(5)
    assert cache.find(TAPS, [("a", None)]) == [None]
    assert cache.find({"fc6": TAPS["fc6"]}, [("a", None)]) != [None]


def test_a_torn_entry_is_a_miss(cache: ContentCache, values: DictValues) -> None:
    cache.keep(TAPS, [(("a", None), features(1))])
    cache.close(5)
    key = next(iter(values.held))
    values.held[key] = values.held[key][:-1]
    assert cache.find(TAPS, [("a", None)]) == [None]


def test_a_cache_that_is_away_is_left_alone_for_a_while(
    values: DictValues, metrics: WorkerMetrics
) -> None:
    now = [100.0]
    cache = ContentCache(values, metrics, clock=lambda: now[0])
    values.away = True
    assert cache.find(TAPS, [("a", None)]) == [None]
    assert not cache.on
    assert cache.find(TAPS, [("a", None)]) == [None]
    assert values.trips == 1
    now[0] += content_cache.PAUSE_S
    values.away = False
    assert cache.on
    assert cache.find(TAPS, [("a", None)]) == [None]
    assert values.trips == 2
    cache.close(5)


def test_too_large_features_are_not_kept(
    cache: ContentCache, values: DictValues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_cache, "MAX_VALUE_BYTES", 8)
    cache.keep(TAPS, [(("a", None), features(1))])  # 16 bytes and 8
    cache.close(5)
    assert len(values.held) == 1


def test_a_slow_cache_holds_nobody_up_and_no_memory(
    cache: ContentCache, values: DictValues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_cache, "MAX_WAITING_BYTES", 100)
    values.gate.clear()
    for n in range(50):
        cache.keep(TAPS, [((f"{n}", None), features(n))])  # 24 bytes each
    values.gate.set()
    cache.close(5)
    assert 2 * 4 <= len(values.held) <= 2 * 3 * 4


def test_without_a_cache_nothing_is_found_and_nothing_counted(metrics: WorkerMetrics) -> None:
    cache = ContentCache(None, metrics)
    assert not cache.on
    cache.keep(TAPS, [(("a", None), features(1))])
    assert cache.find(TAPS, [("a", None), ("b", None)]) == [None, None]
    assert outcomes(metrics) == (0, 0)
    cache.close(1)

"""Features of images that were seen before under the same FeatureSpec, for requests and jobs."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from offshelf.cache.entries import key_of, pack, unpack
from offshelf.core.boxes import Box
from offshelf.errors import DependencyError, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from offshelf.cache.interface import Values
    from offshelf.engine.interface import Features
    from offshelf.worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

# What an image's features depend on beside the FeatureSpec: its sha256, and a box in it or None.
Content: TypeAlias = tuple[str, Box | None]
Kept: TypeAlias = "tuple[Mapping[str, str], Sequence[tuple[Content, dict[str, Features]]]]"

# A map of a large network is dear to keep and cheap to compute.
MAX_VALUE_BYTES: Final = 1 << 20
# Features that wait to be written; above this they are left out.
MAX_WAITING_BYTES: Final = 64 << 20
# A cache that failed is left alone for so long.
PAUSE_S: Final = 5.0


class ContentCache:
    """Looks up and keeps features by content; without `values` it has none and keeps none.

    A cache that is away costs a look now and then, and nothing else: what it does not give is
    computed. Writing is done on a thread of its own, as callers may be on the device's.
    """

    def __init__(
        self,
        values: Values | None,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._values = values
        self._metrics = metrics
        self._clock = clock
        self._away_until_s = float("-inf")
        self._changed = threading.Condition()
        self._waiting: list[Kept] = []
        self._waiting_bytes = 0
        self._closing = False
        self._writer = threading.Thread(target=self._write_forever, name="cache", daemon=True)
        if values is not None:
            self._writer.start()

    @property
    def on(self) -> bool:
        """Whether it is worth to ask: there is a cache, and it did not fail a moment ago."""
        return self._values is not None and self._clock() >= self._away_until_s

    def find(
        self, fingerprints: Mapping[str, str], contents: Sequence[Content]
    ) -> list[dict[str, Features] | None]:
        """By tap, the features of each content, in one round trip; None unless all taps are there.

        `fingerprints` are by tap.
        """
        if not self.on or not contents:
            return [None] * len(contents)
        keys = [key_of(*one, fp) for one in contents for fp in fingerprints.values()]
        values = self._get(keys)
        rows = [None if v is None else unpack(k, v) for k, v in zip(keys, values, strict=True)]
        found: list[dict[str, Features] | None] = []
        for first in range(0, len(rows), len(fingerprints)):
            part = dict(zip(fingerprints, rows[first:], strict=False))
            good = {tap: row for tap, row in part.items() if row is not None}
            found.append(good if len(good) == len(fingerprints) else None)
        misses = found.count(None)
        self._metrics.cached(len(found) - misses, misses)
        return found

    def keep(
        self,
        fingerprints: Mapping[str, str],
        computed: Sequence[tuple[Content, dict[str, Features]]],
    ) -> None:
        """Have features written, soon, if few wait for that; returns at once."""
        if not self.on:
            return
        size = sum(row.nbytes for _, features in computed for row in features.values())
        with self._changed:
            if self._waiting_bytes + size <= MAX_WAITING_BYTES:
                self._waiting.append((fingerprints, computed))
                self._waiting_bytes += size
                self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Write what waits, then let go of the cache."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._values is not None and self._writer.is_alive():
            self._writer.join(timeout_s)
            self._values.close()

    def _get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        if self._values is None:
            return [None] * len(keys)
        try:
            return self._values.get(keys)
        except (DependencyError, InvalidParameter) as error:
            self._leave_alone(error)
            return [None] * len(keys)

    def _write_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if not batch:
                return
            self._write(batch)

    def _write(self, batch: Iterable[Kept]) -> None:
        if self._values is None or not self.on:
            return
        try:
            packed = dict(_entries(batch))
            if packed:
                self._values.put(packed)
        except (DependencyError, InvalidParameter) as error:
            self._leave_alone(error)
        except Exception:  # what it is must not end the thread
            log.exception("features could not be kept")

    def _leave_alone(self, error: Exception) -> None:
        log.warning("the content cache is left alone for %.0f s: %s", PAUSE_S, error)
        self._away_until_s = self._clock() + PAUSE_S


def _entries(batch: Iterable[Kept]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of features; of those that are not too large."""
    for fingerprints, computed in batch:
        for content, features in computed:
            for tap, fingerprint in fingerprints.items():
                if features[tap].nbytes <= MAX_VALUE_BYTES:
                    key = key_of(*content, fingerprint)
                    yield key, pack(key, features[tap])

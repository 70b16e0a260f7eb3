"""What a worker counts and times, as the Prometheus text that it publishes with its heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.core.batching import Lane

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class WorkerMetrics:
    """The worker's own registry, and the engine's Observer.

    Nothing is global, so two workers can live in one process.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._queue = self._histogram("queue_seconds", "From sent to taken by a worker.", _SECONDS)
        self._decode = self._histogram("decode_seconds", "Bytes to pixels, one image.", _SECONDS)
        self._wait = self._histogram(
            "device_wait_seconds", "Decoded, until its batch began.", _SECONDS, ["lane"]
        )
        self._inference = self._histogram(
            "inference_seconds", "One batch on the device.", _SECONDS, ["backbone"]
        )
        self._load = self._histogram(
            "load_seconds", "A backbone onto the device, tried.", _SECONDS, ["backbone"]
        )
        self._let_go = self._counter("let_go", "Backbones that left the device.", ["backbone"])
        self._batch = self._histogram("batch_size", "Network inputs in a batch.", _IMAGES)
        self._images = self._counter("images", "Interactive images by outcome.", ["outcome"])
        self._items = self._counter("job_items", "Job items by outcome.", ["outcome"])
        self._cache = self._counter("cache", "Images looked for in the content cache.", ["outcome"])
        self._dead = Gauge(
            "offshelf_dead_letters",
            "Messages given up and kept for a look.",
            ["queue"],
            registry=self.registry,
        )

    def queued(self, seconds: float) -> None:
        """An interactive image waited so long for a worker."""
        self._queue.observe(max(0.0, seconds))

    def decoded(self, seconds: float) -> None:
        """An image took so long to become pixels."""
        self._decode.observe(seconds)

    def waited(self, lane: Lane, seconds: float) -> None:
        """A decoded image waited so long for the device."""
        self._wait.labels(lane.name.lower()).observe(seconds)

    def ran(self, backbone: str, inputs: int, seconds: float) -> None:
        """A batch of so many inputs went through a backbone in that time."""
        self._inference.labels(backbone).observe(seconds)
        self._batch.observe(inputs)

    def loaded(self, backbone: str, seconds: float) -> None:
        """A backbone was loaded onto the device, and tried, in that time."""
        self._load.labels(backbone).observe(seconds)

    def let_go(self, backbone: str) -> None:
        """A backbone left the device."""
        self._let_go.labels(backbone).inc()

    def answered(self, outcome: str) -> None:
        """An interactive image ended: `ok`, or the code of its error."""
        self._images.labels(outcome).inc()

    def job_items(self, done: int, failed: int, reused: int = 0) -> None:
        """A shard ended: so many rows computed, images that failed, rows that were there."""
        self._items.labels("done").inc(done)
        self._items.labels("failed").inc(failed)
        self._items.labels("reused").inc(reused)

    def cached(self, hits: int, misses: int) -> None:
        """So many images were found in the content cache, and so many were not."""
        self._cache.labels("hit").inc(hits)
        self._cache.labels("miss").inc(misses)

    def dead_letters(self, queue: str, count: int) -> None:
        """So many messages of a queue were given up; the same number at every worker."""
        self._dead.labels(queue).set(count)

    def text(self) -> str:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry).decode()

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(f"offshelf_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"offshelf_{name}", text, labels, registry=self.registry)

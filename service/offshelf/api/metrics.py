"""Prometheus metrics: the API's own, and the workers' texts merged into one page."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from offshelf.schemas.backbones import WorkerBody

LOG = logging.getLogger(__name__)

REQUEST_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class ApiMetrics:
    """What this API process counts; one registry an app, so that tests do not share it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "offshelf_http_requests",
            "HTTP requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "offshelf_http_request_seconds",
            "Time from the request's head to the answer's last byte.",
            ["method", "route"],
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self.images = Counter(
            "offshelf_api_images",
            "Images of feature and predict requests by what became of them.",
            ["outcome"],
            registry=self.registry,
        )
        self.queued_images = Gauge(
            "offshelf_queued_images",
            "Images that wait for a worker on the interactive queue.",
            registry=self.registry,
        )
        self.workers = Gauge(
            "offshelf_workers", "Live workers by readiness.", ["ready"], registry=self.registry
        )
        self.redis_up = Gauge(
            "offshelf_redis_up", "Whether Redis answered this scrape.", registry=self.registry
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a finished request."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)

    def see(self, workers: list[WorkerBody], queued_images: int) -> None:
        """Set what a scrape finds in Redis."""
        self.redis_up.set(1)
        self.queued_images.set(queued_images)
        ready = sum(worker.ready for worker in workers)
        self.workers.labels("true").set(ready)
        self.workers.labels("false").set(len(workers) - ready)

    def page(self, workers: list[WorkerBody]) -> bytes:
        """The exposition text of this process and of the workers, told apart by `worker`."""
        return generate_latest(_Page(self.registry.collect(), workers))


class _Page(Collector):
    """A registry as `generate_latest` sees it: families without creation times."""

    def __init__(self, own: Iterable[Metric], workers: list[WorkerBody]) -> None:
        self._own = own
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for family in self._own:
            _merge(merged, family, {})
        for worker in self._workers:
            for family in _families(worker):
                _merge(merged, family, {"worker": worker.id})
        return iter(merged.values())


def _families(worker: WorkerBody) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(worker.metrics))
    except ValueError:
        LOG.warning("the metrics of worker %s cannot be read", worker.id, exc_info=True)
        return []


def _merge(merged: dict[str, Metric], family: Metric, labels: dict[str, str]) -> None:
    if family.name.endswith("_created"):
        return
    held = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
    for sample in family.samples:
        if not sample.name.endswith("_created"):
            held.samples.append(sample._replace(labels={**sample.labels, **labels}))

"""How long a request takes while a job keeps the device busy, and what the bound on bulk costs.

A bulk batch that runs cannot be stopped, so it is bounded in time (`OFFSHELF_BULK_BATCH_MS`); a
request that comes meanwhile should wait for at most one such batch. For each bound a service of its
own: requests on the idle server, then a job alone, then requests beside the job, then idle again.
Without a bound batches are as large as they may be: that is the baseline of the throughput.
ResNet-18 with seeded weights, one image a request, pauses between requests drawn from an
exponential distribution, so that requests come at any moment of a bulk batch.
`python -m benchmarks.interactive 50 100` measures some bounds beside the baseline.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.rows import Row
from benchmarks.served import WEIGHTS, Caller, photograph
from offshelf_client import Client, Timeout
from tests.serving import Service, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BACKBONE: Final = "resnet18"
UNBOUND_MS: Final = 1_000_000
BOUNDS_MS: Final = (25, 50, 100, 200)
IMAGES: Final = 6_000  # more than a job gets through before it is cancelled
IDLE_REQUESTS: Final = 100
BUSY_REQUESTS: Final = 300
BUSY_S: Final = 60.0  # for the baseline, where a request waits for seconds
PAUSE_S: Final = 0.1
ALONE_S: Final = 20.0
BEAT_S: Final = 0.25  # of the worker's counts


@dataclass(frozen=True)
class Found:
    """Of one bound: seconds of requests, images a second of the job alone and beside requests."""

    idle: Sequence[float]
    busy: Sequence[float]
    alone: float
    beside: float


def run(bounds_ms: Sequence[int] = BOUNDS_MS) -> list[Row]:
    """Every bound, after the baseline."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder / "photographs")
        baseline = measure(folder, UNBOUND_MS)
        rows = told("no bound", baseline, baseline)
        for bound_ms in bounds_ms:
            rows += told(f"bound {bound_ms} ms", measure(folder, bound_ms), baseline)
    return rows


def told(what: str, found: Found, baseline: Found) -> list[Row]:
    idle = 1000 * np.percentile(found.idle, (50, 99))
    busy = 1000 * np.percentile(found.busy, (50, 99))
    more = 1000 * statistics.median(found.busy) - idle[0]
    return [
        Row(f"{what}: idle p50", idle[0], f"{idle[0]:.1f} ms (p99 {idle[1]:.1f} ms)"),
        Row(f"{what}: beside a job, p50", busy[0], f"{busy[0]:.1f} ms (idle + {more:.1f})"),
        Row(
            f"{what}: beside a job, p99",
            busy[1],
            f"{busy[1]:.1f} ms (idle p50 + {busy[1] - idle[0]:.1f})",
        ),
        rate(f"{what}: job alone", found.alone, baseline.alone),
        rate(f"{what}: job beside requests", found.beside, baseline.alone),
    ]


def rate(what: str, value: float, baseline: float) -> Row:
    ratio = value / baseline
    return Row(what, ratio, f"{value:.1f} img/s, {ratio:.2f} of the job alone without a bound")


def measure(folder: Path, bound_ms: int) -> Found:
    """One service with that bound."""
    # Without the content cache: the requests have the same photograph again and again.
    settings = {"bulk_batch_ms": bound_ms, "worker_beat_s": BEAT_S, "cache_bytes": 0}
    data = folder / f"data-{bound_ms}"
    with Service(data, settings) as service, Client(service.url, timeout=Timeout(600)) as client:
        Caller(service.port, photograph(), BACKBONE).ask()  # loads the backbone
        dataset = client.datasets.upload(folder / "photographs", name="photographs")
        idle = requests(service, IDLE_REQUESTS)
        job = client.feature_sets.create(dataset, backbone=BACKBONE, weights=WEIGHTS, taps="logits")
        eventually(lambda: job.refresh().status.done > 0, "the job is under way", 120)
        alone = throughput(service, lambda: time.sleep(ALONE_S))
        busy: list[float] = []
        began_s = time.monotonic()
        both = throughput(service, lambda: busy.extend(requests(service, BUSY_REQUESTS)))
        beside = both - len(busy) / (time.monotonic() - began_s)
        assert not job.refresh().status.finished, "the job ended too early: it needs more images"
        job.cancel()
        eventually(lambda: job.refresh().status.finished, "the job is cancelled")
        return Found([*idle, *requests(service, IDLE_REQUESTS)], busy, alone, beside)


def requests(service: Service, count: int) -> list[float]:
    """The seconds of so many requests, one after the other, with pauses; the same every time."""
    pauses = random.Random(0)
    caller = Caller(service.port, photograph(), BACKBONE)
    caller.ask()  # connects
    taken: list[float] = []
    give_up_s = time.monotonic() + BUSY_S
    while len(taken) < count and time.monotonic() < give_up_s:
        time.sleep(pauses.expovariate(1 / PAUSE_S))
        began_s = time.perf_counter()
        caller.ask()
        taken.append(time.perf_counter() - began_s)
    return taken


def throughput(service: Service, meanwhile: Callable[[], object]) -> float:
    """Images a second that go through the device meanwhile."""
    began_s, before = counted(service)
    meanwhile()
    ended_s, after = counted(service)
    return (after - before) / (ended_s - began_s)


def counted(service: Service) -> tuple[float, float]:
    """The inputs that the device has run, as of the worker's next count, and when that came."""
    known = inputs(service)
    eventually(lambda: inputs(service) != known, "the device runs")
    return time.monotonic(), inputs(service)


def inputs(service: Service) -> float:
    return service.metrics().get("offshelf_batch_size_sum", 0.0)


def write_photographs(folder: Path) -> None:
    """Images of 500 x 334 pixels in one class, no two alike."""
    shift = random.Random(0)
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    (folder / "photographs").mkdir(parents=True)
    for number in range(IMAGES):
        left, top = shift.randrange(100), shift.randrange(60)
        box = (left, top, left + 500, top + 334)
        path = folder / "photographs" / f"{number:05d}.jpg"
        sources[number % len(sources)].crop(box).save(path, quality=90 - number % 7)


if __name__ == "__main__":
    for row in run([int(bound) for bound in sys.argv[1:]] or BOUNDS_MS):
        print(f"{row.what}: {row.figure}", flush=True)

"""Fakes of the worker's ports: an extractor that reads pixels' means, a store, a step queue."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from offshelf.backbones.interface import Card, PublishedWeights, Tap
from offshelf.core.spec import FeatureSpec, Preprocessing
from offshelf.core.view import View
from offshelf.datasets import records
from offshelf.datasets.importing import Wanted
from offshelf.engine.interface import WeightsInfo
from offshelf.engine.windowing import Boxed
from offshelf.errors import InvalidImage, UnknownName, WeightsMissing
from offshelf.schemas.datasets import DatasetItem
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from offshelf.core.batching import Lane
    from offshelf.core.boxes import Box
    from offshelf.engine.company import Company
    from offshelf.engine.interface import Features
    from offshelf.engine.windowing import Windows
    from offshelf.queue.tasks import Step
    from offshelf.schemas.datasets import Dataset
    from offshelf.schemas.features import FeatureParams

PREPROCESSING = Preprocessing(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
D = 6


def no_network() -> torch.nn.Module:
    raise AssertionError("a fake is never built")


CARD = Card(
    name="fakenet",
    build=no_network,
    taps=(Tap("fc7", "fc7", (D,), pre=True), Tap("conv5", "conv5", (2, 1, 3))),
    preprocessing=PREPROCESSING,
    weights=PublishedWeights("V1", "https://example.org/fakenet-00000000.pth", "00000000", "MIT"),
)


@dataclass
class FakeResident:
    card: Card = CARD
    weights: WeightsInfo = field(
        default_factory=lambda: WeightsInfo("random", "random:0", "d" * 64, "none")
    )

    @property
    def nbytes(self) -> int:
        return 4 * D

    def forward(self, batch: Any, outputs: Any) -> Any:
        raise AssertionError("the fake extractor does not run its resident")


class FakeHold:
    """Counts who shares it."""

    def __init__(self) -> None:
        self.shared = 0

    def share(self) -> FakeHold:
        self.shared += 1
        return self

    def release(self) -> None:
        self.shared -= 1


@dataclass(frozen=True)
class FakePlan:
    resident: FakeResident
    specs: dict[str, FeatureSpec]
    view: View = field(default_factory=lambda: View.parse("center"))
    closed: threading.Event = field(default_factory=threading.Event)
    hold: FakeHold = field(default_factory=FakeHold)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()

    @property
    def bytes_per_image(self) -> int:
        return 4 * D * len(self.specs)


def features_of(image: bytes, tap: str) -> Features:
    """What the fake extractor gives: the image's first D bytes, scaled, in the tap's shape."""
    values = np.frombuffer(image[:D], np.uint8).astype(np.float32) / 255
    return values.reshape(2, 1, 3) if tap == "conv5" else values


class FakeExtractor:
    """Runs on a thread; images that start with `bad` fail. `hold` keeps everything waiting."""

    def __init__(self) -> None:
        self.resident = FakeResident()
        self.submitted = 0
        self.hold = threading.Event()
        self.hold.set()
        self.faults: list[BaseException] = []
        self.canaries_run = 0
        self.closing = threading.Event()
        self.loading = threading.Event()  # until it is set nothing but the default is there
        self.loading.set()
        self.resolved: list[FeatureParams] = []
        self.plans: list[FakePlan] = []
        self.budget = 1 << 30
        self.missing = False
        self._pool = ThreadPoolExecutor(4)

    def resolve_loaded(self, params: FeatureParams) -> FakePlan | None:
        if params.weights is not None and not self.loading.is_set():
            return None
        return self.resolve(params)

    def resolve(self, params: FeatureParams) -> FakePlan:
        self.resolved.append(params)
        if params.weights is not None and not self.loading.wait(30):
            raise AssertionError("loading for ever")
        if params.backbone not in (None, "fakenet"):
            raise UnknownName(f"no backbone {params.backbone!r}")
        if self.missing:
            raise WeightsMissing("no weights here")
        weights = self.resident.weights
        specs = {
            tap: FeatureSpec("fakenet", weights.digest, tap, params.view, PREPROCESSING)
            for tap in params.taps
        }
        self.plans.append(FakePlan(self.resident, specs))
        return self.plans[-1]

    def submit(
        self,
        image: bytes | Callable[[], bytes],
        plan: Any,
        lane: Lane,
        deadline_s: float | None = None,
        box: Box | None = None,
        company: Company | None = None,
    ) -> Future[dict[str, Features]]:
        self.submitted += 1
        return self._pool.submit(self._run, image, plan, box)

    def submit_windows(
        self,
        image: bytes,
        plan: Any,
        lane: Lane,
        windows: Windows,
        deadline_s: float | None = None,
    ) -> Future[Boxed]:
        """Of an image of 40 x 30 pixels; a box adds its left to every byte."""
        self.submitted += 1
        return self._pool.submit(self._run_windows, image, plan, windows)

    def _run_windows(self, image: bytes, plan: FakePlan, windows: Windows) -> Boxed:
        boxes = np.asarray(windows.windows(40, 30), np.float64)
        rows = [
            self._run(bytes(value + int(left) for value in image), plan, None)
            for left in boxes[:, 0]
        ]
        features = {tap: np.stack([row[tap] for row in rows]) for tap in plan.specs}
        return Boxed(boxes, 40, 30, features)

    def _run(
        self, image: bytes | Callable[[], bytes], plan: FakePlan, box: Box | None
    ) -> dict[str, Features]:
        if not self.hold.wait(30):
            raise AssertionError("held for ever")
        image = image() if callable(image) else image
        if box is not None:
            image = bytes(value + int(box[0]) for value in image)
        if self.faults:
            raise self.faults.pop()
        if image.startswith(b"bad"):
            raise InvalidImage("no image")
        return {tap: features_of(image, tap) for tap in plan.specs}

    def canaries(self, timeout_s: float) -> None:
        self.canaries_run += 1
        if self.faults:
            raise self.faults.pop()

    def close(self, timeout_s: float) -> None:
        self.closing.set()
        self._pool.shutdown(wait=True)


class MemoryStore:
    """`store.interface.Store` in a dict; counts what was written."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.writes: list[str] = []
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data
        self.writes.append(key)

    def put_new(self, key: str, data: bytes | Path) -> bool:
        read = data if isinstance(data, bytes) else data.read_bytes()
        with self._lock:
            if key in self.objects:
                return False
            self.put(key, read)
            return True

    def get(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise UnknownName(f"no object {key}") from None

    def get_range(self, key: str, start: int, size: int) -> bytes:
        return self.get(key)[start : start + size]

    def size(self, key: str) -> int:
        return len(self.get(key))

    def exists(self, key: str) -> bool:
        return key in self.objects

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


class ListQueue:
    """`queue.interface.StepQueue` that keeps what was enqueued."""

    def __init__(self) -> None:
        self.steps: list[tuple[Step, str, int | None]] = []

    def enqueue(
        self, step: Step, job_id: str, index: int | None = None, delay_s: float = 0.0
    ) -> None:
        self.steps.append((step, job_id, index))

    def run(self, perform: Callable[[Step, str, int | None], None]) -> None:
        """Perform what is enqueued, and what that enqueues, in order."""
        while self.steps:
            perform(*self.steps.pop(0))


def put_dataset(
    store: MemoryStore, images: dict[str, list[bytes]], owner: str = "default"
) -> Dataset:
    """A dataset of these images by class, with its blobs, in the store."""
    items = []
    for label, members in sorted(images.items()):
        for number, image in enumerate(members):
            sha256 = hashlib.sha256(image).hexdigest()
            store.put_new(layout.blob(sha256), image)
            items.append(
                DatasetItem(
                    path=f"{label}/{number:03d}", label=label, sha256=sha256, bytes=len(image)
                )
            )
    digest = hashlib.sha256(repr(items).encode()).hexdigest()[:24]
    counts = {label: len(members) for label, members in sorted(images.items())}
    wanted = Wanted(owner=owner, name="fake", now_s=1.0)
    head = wanted.head(
        id=f"ds-{digest}",
        layout="folder",
        classes=list(counts),
        counts=counts,
        total=len(items),
        bytes=sum(item.bytes for item in items),
    )
    records.add(store, head, items)
    return records.load(store, owner, head.id)


def separable(count: int, seed: int = 0) -> dict[str, list[bytes]]:
    """Two classes of images whose features a line parts: dark and bright."""
    random = np.random.default_rng(seed)
    return {
        "bright": [random.integers(160, 256, D, np.uint8).tobytes() for _ in range(count)],
        "dark": [random.integers(0, 90, D, np.uint8).tobytes() for _ in range(count)],
    }

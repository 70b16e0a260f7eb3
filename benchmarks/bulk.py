"""What the content cache and fixed batches cost: shards of 64 images through a worker's own parts.

The ways take turns, shard by shard. Times are of the process's processors, all threads together,
which other work on the machine changes little.
"""

from __future__ import annotations

import hashlib
import io
import statistics
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.rows import Row
from offshelf.backbones.catalogue import Catalogue
from offshelf.cache.sqlite_values import SqliteValues
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.schemas.datasets import Dataset, DatasetItem
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from offshelf.worker.content_cache import ContentCache
from offshelf.worker.extraction import ShardExtraction, Work
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.planning import Pinned

if TYPE_CHECKING:
    from collections.abc import Iterator

PARAMS: Final = FeatureParams(
    backbone="squeezenet1_0", weights="random:0", taps=["fire9"], pool="grid:3"
)
SHARD: Final = 64
ROUNDS: Final = 3
# So that the cache has written before the next way is timed.
SETTLE_S: Final = 0.5


def run() -> list[Row]:
    """Time shards in every way, and looks into the cache by themselves."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = stack.enter_context(_Bench.over(Path(folder)))
        for round_number in range(-1, ROUNDS):
            bench.round(round_number)
        return [*bench.shard_rows(), *bench.look_rows()]


class _Bench:
    """A store, an extractor and a cache; `seconds` by way."""

    def __init__(self, folder: Path, extractor: Extractor) -> None:
        self.store = ObjectStore.open("memory://")
        self.extractor = extractor
        self.values = SqliteValues(folder, 1 << 30)
        self.cache = ContentCache(self.values, WorkerMetrics())
        self.seconds: dict[str, list[float]] = {}

    @classmethod
    @contextmanager
    def over(cls, folder: Path) -> Iterator[_Bench]:
        settings = Settings(data_dir=folder)
        extractor = Extractor(TorchEngine(settings, Catalogue(None)), settings)
        bench = cls(folder, extractor)
        try:
            yield bench
        finally:
            bench.cache.close(10)
            extractor.close(10)

    def round(self, number: int) -> None:
        """One shard of new images in each way; the first round warms up."""
        off = ContentCache(None, WorkerMetrics())
        ways = [
            ("no cache", off, False, 3 * number),
            ("cache, all missed", self.cache, False, 3 * number + 1),
            ("fixed batches", off, True, 3 * number + 2),
            ("cache, all there", self.cache, False, 3 * number + 1),
        ]
        for name, cache, fixed, seed in ways:
            took_s = self._shard(cache, seed, name, fixed=fixed)
            if number >= 0:
                self.seconds.setdefault(name, []).append(took_s)
            time.sleep(SETTLE_S)

    def _shard(self, cache: ContentCache, seed: int, name: str, *, fixed: bool) -> float:
        dataset = self._dataset(seed, name)
        with self.extractor.resolve(PARAMS) as plan:
            pinned = Pinned.from_plan(plan, SHARD, deterministic=fixed)
        began_s = time.process_time()
        work = Work(dataset, PARAMS, pinned, 0)
        ShardExtraction(self.store, self.extractor, cache).make(work, lambda: None)
        return time.process_time() - began_s

    def _dataset(self, seed: int, name: str) -> Dataset:
        items = []
        for number, jpeg in enumerate(_jpegs(seed)):
            sha256 = hashlib.sha256(jpeg).hexdigest()
            self.store.put_new(layout.blob(sha256), jpeg)
            items.append(DatasetItem(path=f"{number}", label="a", sha256=sha256, bytes=len(jpeg)))
        return Dataset(
            id=f"ds-{seed}-{name}", owner="b", name="", created_s=0, classes=["a"], items=items
        )

    def shard_rows(self) -> list[Row]:
        """Medians, and the medians of what each way took beside its pair without a cache."""
        base = self.seconds["no cache"]
        rows = []
        for name, seconds in self.seconds.items():
            median = statistics.median(seconds)
            rows.append(Row(f"shard of {SHARD}, {name}", median, f"{1000 * median:.0f} ms"))
            if name != "no cache":
                ratio = statistics.median(s / b for s, b in zip(seconds, base, strict=True))
                rows.append(Row(f"{name}, against its pair without", ratio, f"{ratio:.3f}"))
        return rows

    def look_rows(self) -> list[Row]:
        """A look for a whole shard, and for one image, by itself."""
        with self.extractor.resolve(PARAMS) as plan:
            fingerprints = {tap: spec.fingerprint for tap, spec in plan.specs.items()}
        known = [(hashlib.sha256(j).hexdigest(), None) for j in _jpegs(1)]
        unknown = [(hashlib.sha256(b"%d" % n).hexdigest(), None) for n in range(SHARD)]
        rows = []
        looks = (("missed", unknown), ("there", known))
        for name, contents in looks:
            for some in (contents, contents[:1]):
                times = []
                for _ in range(50):
                    began_s = time.process_time()
                    found = self.cache.find(fingerprints, some)
                    times.append(time.process_time() - began_s)
                assert all((one is not None) == (name == "there") for one in found)
                median = statistics.median(times)
                what = f"one look for {len(some)}, {name}"
                rows.append(Row(what, median, f"{1000 * median:.2f} ms"))
        return rows


def _jpegs(seed: int) -> Iterator[bytes]:
    """Photographs of 500 x 334 pixels that nobody has seen before."""
    random = np.random.default_rng(seed + 10)
    sources = load_sample_images().images
    for number in range(SHARD):
        left, top = random.integers(0, 140), random.integers(0, 93)
        pixels = sources[number % 2][top : top + 334, left : left + 500].copy()
        pixels[0, :8] = random.integers(0, 256, (8, 3))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        yield file.getvalue()


if __name__ == "__main__":
    for row in run():
        print(f"{row.what:45} {row.figure}")

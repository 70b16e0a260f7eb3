from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from offshelf.datasets import records
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import limits_of
from offshelf.datasets.reading import ImageReader
from offshelf.datasets.sources import Sources
from offshelf.engine.extractor import Extractor
from offshelf.errors import JobCancelled
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from offshelf.worker.content_cache import ContentCache
from offshelf.worker.extraction import FIXED_BATCH, ShardExtraction, Work
from offshelf.worker.known_datasets import KnownDatasets
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.planning import Pinned
from offshelf.worker.reuse import Donors, find_donors
from tests.unit.engine.fakes import FakeEngine
from tests.unit.worker.fakes import FakeExtractor, MemoryStore, features_of, put_dataset
from tests.unit.worker.test_content_cache import DictValues

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.schemas.datasets import Dataset

PARAMS = FeatureParams(taps=["fc7", "conv5"])


def images(*numbers: int) -> list[bytes]:
    return [bytes([n, *range(1, 9)]) for n in numbers]


class Rig:
    """Shards of four over a store, an extractor that counts, and a cache."""

    def __init__(self, *, deterministic: bool = False) -> None:
        self.store, self.extractor, self.values = MemoryStore(), FakeExtractor(), DictValues()
        self.cache = ContentCache(self.values, WorkerMetrics())
        self.extraction = ShardExtraction(self.store, self.extractor, self.cache)
        with self.extractor.resolve(PARAMS) as plan:
            self.pinned = Pinned.from_plan(plan, 4, deterministic=deterministic)  # type: ignore[arg-type]

    def make(self, dataset: Dataset, index: int, known: Any = None) -> tuple[Any, int, int]:
        """The shard, how many of its rows were reused, and how many images were submitted."""
        before = self.extractor.submitted
        work = Work(dataset, PARAMS, self.pinned, index, known or {})
        made = self.extraction.make(work, lambda: None)
        return made.shard, made.reused, self.extractor.submitted - before

    def settle(self) -> None:
        """Let the cache write what waits."""
        self.cache.close(5)
        self.cache = ContentCache(self.values, WorkerMetrics())
        self.extraction = ShardExtraction(self.store, self.extractor, self.cache)

    def close(self) -> None:
        self.cache.close(5)
        self.extractor.close(5)


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.close()


def test_rows_of_the_cache_are_not_computed_again(rig: Rig) -> None:
    first = put_dataset(rig.store, {"a": images(1, 2, 3, 4)})
    assert rig.make(first, 0)[1:] == (0, 4)
    rig.settle()
    second = put_dataset(rig.store, {"b": images(9, 2, 4, 8)})
    shard, reused, submitted = rig.make(second, 0)
    assert (reused, submitted) == (2, 2)
    wanted = np.stack([features_of(image, "fc7") for image in images(9, 2, 4, 8)])
    np.testing.assert_array_equal(shard.rows.reshape(4, -1), wanted)


def test_rows_of_an_older_version_are_taken_over_from_its_shards(rig: Rig) -> None:
    old = put_dataset(rig.store, {"a": [*images(1, 2, 3, 4, 5), b"bad image", *images(7)]})
    for index in range(2):
        rig.make(old, index)
    rig.store.put_new(layout.shard_plan(old.id), b'{"shard_images": 4}')
    for shelf in rig.pinned.shelves.values():
        rig.store.put_new(layout.extracted("default", shelf, old.id), b"")
    new = put_dataset(rig.store, {"a": images(5, 1, 8), "b": [*images(2, 7), b"bad image"]})
    found = find_donors(rig.store, KnownDatasets(rig.store), new, rig.pinned.shelves.values())
    assert found is not None
    assert found.names == [old.id]
    donors = Donors.unpack(found.pack())
    known = donors.rows(rig.store, rig.pinned.shelves, range(6))
    assert sorted(known) == [0, 1, 3, 4], "8 is new, the bad image has no row anywhere"
    rig.values.held.clear()
    rig.cache._values = None  # so that nothing but the old shards can be the source
    shard, reused, submitted = rig.make(new, 0, {n: known[n] for n in (0, 1, 3)})
    assert (reused, submitted) == (3, 1)
    wanted = np.stack([features_of(image, "conv5") for image in images(5, 1, 8, 2)])
    conv5 = rig.store.get(layout.shard(new.id, rig.pinned.shelves["conv5"], 0))
    np.testing.assert_array_equal(type(shard).unpack(conv5).rows, wanted)


def test_a_donor_whose_shard_is_gone_is_computed(rig: Rig) -> None:
    old = put_dataset(rig.store, {"a": images(1, 2, 3, 4, 5)})
    rig.make(old, 0)
    donors = Donors([old.id], [4], np.zeros(5, np.int32), np.arange(5))
    assert sorted(donors.rows(rig.store, rig.pinned.shelves, range(5))) == [0, 1, 2, 3]


def test_there_are_no_donors_without_the_same_features(rig: Rig) -> None:
    old = put_dataset(rig.store, {"a": images(1, 2)})
    new = put_dataset(rig.store, {"a": images(1, 2, 3)})
    one, other = rig.pinned.shelves.values()
    rig.store.put_new(layout.extracted("default", one, old.id), b"")
    assert find_donors(rig.store, KnownDatasets(rig.store), new, [one, other]) is None


def test_fixed_batches_are_full_in_order_and_take_nothing_from_the_cache() -> None:
    rig = Rig(deterministic=True)
    object.__setattr__(rig.pinned, "shard_images", 20)
    seen: list[tuple[int, Any]] = []

    def submit(image, plan, lane, deadline_s=None, box=None, company=None):
        data = image()
        seen.append((data[0], company))
        future: Future[Any] = Future()
        future.set_result({tap: features_of(data, tap) for tap in plan.specs})
        return future

    rig.extractor.submit = submit  # type: ignore[method-assign]
    dataset = put_dataset(rig.store, {"a": images(*range(20))})
    for _ in range(2):
        assert rig.make(dataset, 0)[1] == 0
        rig.settle()
    assert [value for value, _ in seen] == [*range(20), *range(20)]
    members = [
        [v for v, c in seen[:20] if c is one] for one in dict.fromkeys(c for _, c in seen[:20])
    ]
    assert [len(one) for one in members] == [FIXED_BATCH, FIXED_BATCH, 20 - 2 * FIXED_BATCH]
    assert not rig.values.held
    (shelf, _) = sorted(rig.pinned.shelves.values())
    assert shelf.endswith(".deterministic")
    assert rig.store.exists(layout.shard(dataset.id, shelf, 0))
    rig.close()


def test_a_cancelled_shard_lets_go_of_its_images_and_writes_nothing(rig: Rig) -> None:
    dataset = put_dataset(rig.store, {"a": images(1, 2, 3, 4)})
    futures: list[Future[Any]] = []

    def submit(image, plan, lane, deadline_s=None, box=None, company=None):
        futures.append(Future())
        return futures[-1]

    rig.extractor.submit = submit  # type: ignore[method-assign]
    calls = iter([None, None, None, None, None])

    def watch() -> None:
        if next(calls, JobCancelled) is JobCancelled:
            raise JobCancelled("no more")

    writes = len(rig.store.writes)
    with pytest.raises(JobCancelled):
        rig.extraction.make(Work(dataset, PARAMS, rig.pinned, 0), watch)
    assert len(futures) == 4
    assert all(future.cancelled() for future in futures)
    assert len(rig.store.writes) == writes


def test_a_set_is_named_by_what_it_is(rig: Rig) -> None:
    fixed = Rig(deterministic=True)
    names = {
        rig.pinned.feature_set_id("ds-1"),
        rig.pinned.feature_set_id("ds-2"),
        fixed.pinned.feature_set_id("ds-1"),
    }
    assert len(names) == 3
    assert rig.pinned.feature_set_id("ds-1") == Rig().pinned.feature_set_id("ds-1")
    fixed.close()


def test_a_registered_image_that_has_changed_is_an_error_and_holds_nobody_up(
    tmp_path: Path,
) -> None:
    """With fixed batches too, where each waits for the others of its batch: in a real extractor."""
    store, files = ObjectStore.open("memory://"), tmp_path / "files"
    for n in range(10):
        (files / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (n, n, n)).save(files / "a" / f"{n}.png")
    sources = Sources([str(files)])
    wanted = Wanted("default", "files", 1.0, source=str(files), copied=False)
    head, _ = import_dataset(store, sources.open(str(files)), wanted, limits_of(Settings()))
    dataset = records.load(store, "default", head.id)
    (files / "a" / "3.png").write_bytes(b"another")
    (files / "a" / "9.png").unlink()
    params = FeatureParams(taps=["mean"])
    extractor = Extractor(FakeEngine(), Settings(default_backbone="fake", decode_threads=2))
    cache, reader = ContentCache(None, WorkerMetrics()), ImageReader(store, sources)
    for deterministic in (True, False):
        with extractor.resolve(params) as plan:
            pinned = Pinned.from_plan(plan, 10, deterministic=deterministic)
        extraction = ShardExtraction(store, extractor, cache, reader)
        ends_s = time.monotonic() + 60

        def watch(ends_s: float = ends_s) -> None:
            assert time.monotonic() < ends_s, "somebody waits for ever"

        shard = extraction.make(Work(dataset, params, pinned, 0), watch).shard
        assert shard.kept.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
        assert {n: error.code for n, error in shard.errors.items()} == {
            3: "invalid_image", 9: "invalid_image",
        }  # fmt: skip
        assert "changed since it was registered" in shard.errors[3].message
    cache.close(5)
    extractor.close(5)

"""Samples of regions: their features in a row, zeros for what is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offshelf.errors import InvalidImage
from offshelf.schemas.features import FeatureParams
from offshelf.worker.content_cache import ContentCache
from offshelf.worker.extraction import ShardExtraction, Work
from offshelf.worker.metrics import WorkerMetrics
from offshelf.worker.planning import Pinned
from tests.unit.worker.fakes import FakeExtractor, MemoryStore, features_of, put_dataset


def extracted(boxes: list[list[tuple[float, float, float, float] | None]], tap: str = "fc7"):
    """The shard of images whose boxes are these, and the images."""
    store, extractor = MemoryStore(), FakeExtractor()
    images = [bytes([10 * n + i for i in range(6)]) for n in range(len(boxes))]
    plain = put_dataset(store, {"a": images})
    items = [replace(item, boxes=b) for item, b in zip(plain.items, boxes, strict=True)]
    dataset = replace(plain, items=items)
    params = FeatureParams(taps=[tap])
    with extractor.resolve(params) as plan:
        pinned = Pinned.from_plan(plan, shard_images=8)  # type: ignore[arg-type]
    extraction = ShardExtraction(store, extractor, ContentCache(None, WorkerMetrics()))
    shard = extraction.make(Work(dataset, params, pinned, 0), lambda: None).shard
    extractor.close(5)
    return shard, images


# The fake adds a box's left edge to every byte of the image.
def test_a_region_is_cut_before_the_network_sees_it() -> None:
    shard, images = extracted([[(3, 0, 9, 9)], []])
    np.testing.assert_array_equal(shard.rows[1], features_of(images[1], "fc7"))
    np.testing.assert_allclose(shard.rows[0], features_of(images[0], "fc7") + 3 / 255, atol=1e-6)


@pytest.mark.parametrize(("tap", "shape"), [("fc7", (3, 6)), ("conv5", (3, 2, 1, 3))])
def test_several_regions_stand_in_a_row_and_missing_ones_are_zeros(
    tap: str, shape: tuple[int, ...]
) -> None:
    box = (5.0, 0.0, 9.0, 9.0)
    shard, images = extracted([[box, None, (0, 0, 1, 1)], [None, box, None]], tap)
    assert shard.rows.shape == (2, *shape)
    first, second = shard.rows
    np.testing.assert_allclose(first[0], features_of(images[0], tap) + 5 / 255, atol=1e-6)
    np.testing.assert_array_equal(first[2], features_of(images[0], tap))
    assert not first[1].any()
    assert not second[[0, 2]].any()
    assert second[1].any()


def test_a_region_that_fails_is_the_error_of_its_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FakeExtractor.submit

    def submit(self, image, plan, lane, deadline_s=None, box=None, company=None):
        if box == (9, 9, 9, 9):
            self.faults.append(InvalidImage("outside"))
        return honest(self, image, plan, lane, deadline_s, box)

    monkeypatch.setattr(FakeExtractor, "submit", submit)
    shard, _ = extracted([[(9, 9, 9, 9)]])
    assert shard.kept.tolist() == []
    assert shard.errors[0].message == "outside"

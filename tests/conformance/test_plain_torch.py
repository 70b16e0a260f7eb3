"""AlexNet and VGG-16 through the Extractor equal plain torch, whatever the batch."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.core.batching import Lane
from offshelf.engine.extractor import Extractor
from offshelf.engine.observer import Unobserved
from offshelf.engine.torch_engine import TorchEngine
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference import plain
from tests.reference.pictures import encode, picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offshelf.engine.interface import Features

SIZES = {"alexnet": (1, 2, 3, 7, 16, 33, 64), "vgg16": (1, 2, 5, 64)}


class Batches(Unobserved):
    """Remembers how many inputs went through at a time."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, float]] = []

    def ran(self, backbone: str, inputs: int, seconds: float) -> None:
        self.seen.append((backbone, inputs, seconds))


@dataclass
class Bench:
    """A backbone with seeded weights in torchvision's format, and images with their features."""

    backbone: str
    extractor: Extractor
    batches: Batches
    images: Sequence[bytes]
    truth: dict[str, np.ndarray]
    plan_params: FeatureParams = field(init=False)

    def __post_init__(self) -> None:
        self.plan_params = FeatureParams(backbone=self.backbone, taps=list(plain.TAPS))

    def run(self, indices: Sequence[int]) -> dict[str, Features]:
        plan = self.extractor.resolve(self.plan_params)
        futures = [self.extractor.submit(self.images[i], plan, Lane.INTERACTIVE) for i in indices]
        rows = [future.result(100) for future in futures]
        return {tap: np.stack([row[tap] for row in rows]) for tap in plain.TAPS}


@pytest.fixture(scope="module", params=sorted(SIZES))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    images = [
        encode(picture(seed), "JPEG" if seed % 2 else "PNG") for seed in range(max(SIZES["vgg16"]))
    ]
    # Not tmp_path, which pytest keeps: VGG-16 has half a gigabyte.
    with tempfile.TemporaryDirectory() as folder:
        weights = plain.save_official(request.param, Path(folder))
        # So patient that everything submitted at once makes one batch.
        settings = Settings(weights_dir=Path(folder), device="cpu", max_batch=64, linger_ms=60_000)
        batches = Batches()
        extractor = Extractor(TorchEngine(settings), settings, observer=batches)
        truth = plain.features(request.param, weights, images)
        yield Bench(request.param, extractor, batches, images, truth)
        extractor.close(30)


@pytest.mark.timeout(300)
def test_every_tap_equals_plain_torch_for_batches_of_1_to_64(bench: Bench) -> None:
    random = np.random.default_rng(0)
    for size in SIZES[bench.backbone]:
        chosen = random.permutation(len(bench.images))[:size]
        rows = bench.run(chosen)
        assert bench.batches.seen[-1][:2] == (bench.backbone, size)
        for tap in plain.TAPS:
            error = plain.worst_row_error(rows[tap], bench.truth[tap][chosen])
            assert error < plain.TOLERANCE, (size, tap, error)


def test_the_weights_are_labelled_as_brought_and_not_as_the_published_ones(bench: Bench) -> None:
    weights = bench.extractor.resolve(bench.plan_params).resident.weights
    assert (weights.source, weights.label) == ("directory", plain.OFFICIAL_NAMES[bench.backbone])
    assert "brought" in weights.licence

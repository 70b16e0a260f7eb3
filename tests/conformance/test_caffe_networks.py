"""Networks from brought Caffe files, image file to feature, equal an independent computation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.core.batching import Lane
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference import caffe, wire
from tests.reference.pictures import encode, picture
from tests.reference.plain import TOLERANCE, worst_row_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

IMAGES = [encode(picture(seed), "JPEG", quality=90) for seed in range(2)]
ALEX = (caffe.ALEXNET_FILTERS, caffe.ALEXNET_MATRICES)
SLOW = (caffe.SLOW_FILTERS, caffe.SLOW_MATRICES)


@dataclass(frozen=True)
class Case:
    """A backbone, how its file is written, and what computes it."""

    network: Callable[[Mapping[str, Tensor], Tensor], dict[str, Tensor]]
    layers: tuple[Mapping[str, tuple[int, int, int]], Mapping[str, tuple[int, int]]]
    write: Callable[[Path, Mapping[str, np.ndarray]], object]
    mean: tuple[float, float, float] = caffe.BGR_MEAN
    side: int = 227
    rgb: bool = False


def caffemodel(generation: wire.Generation, shape: wire.Shape) -> Callable[..., object]:
    def write(stem: Path, state: Mapping[str, np.ndarray]) -> None:
        content = wire.net(state, generation, shape=shape)
        stem.with_suffix(".caffemodel").write_bytes(content)

    return write


def npz(stem: Path, state: Mapping[str, np.ndarray]) -> None:
    np.savez(stem.with_suffix(".npz"), **state)


CASES = {
    "caffe_alexnet": Case(caffe.alexnet, ALEX, caffemodel("V1", "legacy")),
    "caffenet": Case(caffe.caffenet, ALEX, caffemodel("new", "new")),
    "decaf": Case(caffe.decaf, ALEX, npz, mean=caffe.BGR_MEAN[::-1], rgb=True),
    "cnn_s": Case(caffe.cnn_s, SLOW, caffemodel("V0", "legacy"), caffe.VGG_BGR_MEAN, 224),
}


@dataclass(frozen=True)
class Bench:
    """A case with seeded weights in its file."""

    backbone: str
    case: Case
    state: Mapping[str, np.ndarray]
    folder: Path

    def extractor(self) -> Extractor:
        settings = Settings(weights_dir=self.folder, device="cpu")
        return Extractor(TorchEngine(settings), settings)

    def truth(self, view: str) -> dict[str, np.ndarray]:
        case, mean = self.case, np.array(self.case.mean)
        inputs = caffe.to_inputs(IMAGES, case.side, mean, warp=view == "warp", rgb=case.rgb)
        return caffe.features(case.network, self.state, inputs)


@pytest.fixture(scope="module", params=sorted(CASES))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    case = CASES[request.param]
    # Not tmp_path, which pytest keeps: a file has a quarter of a gigabyte.
    with tempfile.TemporaryDirectory() as folder:
        state = caffe.seeded(*case.layers, seed=11)
        case.write(Path(folder) / request.param, state)
        yield Bench(request.param, case, state, Path(folder))


@pytest.mark.timeout(300)
def test_every_tap_equals_the_prototxt_in_plain_torch(bench: Bench) -> None:
    extractor = bench.extractor()
    for view in ("center", "warp"):
        truth = bench.truth(view)
        params = FeatureParams(backbone=bench.backbone, taps=list(truth), view=view)
        plan = extractor.resolve(params)
        assert plan.resident.weights.source == "directory"
        futures = [extractor.submit(image, plan, Lane.BULK) for image in IMAGES]
        rows = [future.result(100) for future in futures]
        for tap, want in truth.items():
            found = np.stack([row[tap] for row in rows])
            assert worst_row_error(found, want) < TOLERANCE, (view, tap)
    extractor.close(30)

"""Real weights on real photographs: the figure of an independent script comes out."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import squeezenet1_0

from offshelf.core.batching import Lane
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference.plain import TOLERANCE, to_inputs, worst_row_error

if TYPE_CHECKING:
    from pathlib import Path


def independent_logits(weights: Path, images: list[bytes]) -> np.ndarray:
    network = squeezenet1_0()
    network.load_state_dict(load_file(weights))
    with torch.inference_mode():
        parts = [network.eval()(part) for part in to_inputs(images).split(10)]
    return torch.cat(parts).numpy()


@pytest.mark.timeout(300)
def test_imagenet_samples_reach_the_top1_of_an_independent_script(shared_data: Path) -> None:
    folder = shared_data / "data" / "imagenet-samples"
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    name, label = list(rows[0])[:2]
    images = [(folder / row[name]).read_bytes() for row in rows]
    truth = np.array([int(row[label]) for row in rows])
    settings = Settings(weights_dir=shared_data / "weights", device="cpu")
    extractor = Extractor(TorchEngine(settings), settings)
    plan = extractor.resolve(FeatureParams(backbone="squeezenet1_0", taps=["logits"]))
    futures = [extractor.submit(image, plan, Lane.BULK) for image in images]
    logits = np.stack([future.result(120)["logits"] for future in futures])
    extractor.close(10)
    direct = independent_logits(shared_data / "weights" / "squeezenet1_0.safetensors", images)
    assert worst_row_error(logits, direct) < TOLERANCE
    assert np.count_nonzero(direct.argmax(1) == truth) == 58
    assert np.count_nonzero(logits.argmax(1) == truth) == 58

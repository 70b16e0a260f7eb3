"""The same numbers on a CUDA device as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.weights import digest
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.settings import Settings
from tests.reference.networks import seeded, tiered
from tests.reference.plain import TOLERANCE, forward, worst_row_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("backbone", tiered(BACKBONES.names()))
def test_every_tap_is_the_same_on_cuda_and_on_the_cpu(backbone: str) -> None:
    here = seeded(BACKBONES.get(backbone), seed=3)
    there = seeded(BACKBONES.get(backbone), seed=3, device="cuda")
    side = here.card.preprocessing.crop
    batch = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    outputs = [Output(tap.name) for tap in here.card.taps]
    outputs += [Output(f"{tap.name}:pre") for tap in here.card.taps if tap.pre]
    wanted = forward(here, batch, outputs)
    for output, rows in forward(there, batch, outputs).items():
        assert worst_row_error(rows, wanted[output]) < TOLERANCE, output
    assert digest(there._traced._root) == digest(here._traced._root)


def test_the_engine_loads_onto_the_device() -> None:
    here = TorchEngine(Settings(device="cpu")).load("embednet", "random:3")
    there = TorchEngine(Settings(device="cuda")).load("embednet", "random:3")
    assert there.weights.digest == here.weights.digest

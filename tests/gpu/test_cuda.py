"""The same numbers on a CUDA device as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.weights import digest
from offshelf.core.spec import FeatureSpec
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.whitening import Whitening
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
    assert digest(there._traced.root) == digest(here._traced.root)


def test_the_engine_loads_onto_the_device() -> None:
    here = TorchEngine(Settings(device="cpu")).load("embednet", "random:3")
    there = TorchEngine(Settings(device="cuda")).load("embednet", "random:3")
    assert there.weights.digest == here.weights.digest


@pytest.mark.parametrize("backbone", ["alexnet", "embednet", "resnet50"])
def test_dense_inputs_and_whitening_are_the_same_on_cuda_and_on_the_cpu(backbone: str) -> None:
    here = TorchEngine(Settings(device="cpu")).load(backbone, "random:3")
    there = TorchEngine(Settings(device="cuda")).load(backbone, "random:3")
    side = here.card.preprocessing.crop
    random = np.random.default_rng(1)
    sizes = [(side, side), (side + 40, side + 90), (side + 90, side + 40)]
    batch = [(random.integers(0, 256, (2, *size, 3), dtype=np.uint8),) for size in sizes]
    tap = here.card.resolve_tap("penultimate")[0]
    width = here.shape_at(tap, side)[0]
    assert there.shape_at(tap, 2 * side) == here.shape_at(tap, 2 * side)
    spec = FeatureSpec(backbone, "0" * 64, tap, "center", here.card.preprocessing)
    matrix = random.normal(size=(5, width)) / np.sqrt(width)
    white = Whitening.of(np.zeros(width), matrix, spec)
    outputs = [
        Output(tap, "avg"),
        Output(tap, "avg", f"l2,whiten:{white.digest},l2,power:2", "stack", (white,)),
    ]
    wanted = here.forward(batch, outputs)
    for output, rows in there.forward(batch, outputs).items():
        got, want = np.stack(list(rows)), np.stack(list(wanted[output]))
        # A power of two doubles what is relative.
        assert worst_row_error(got, want) < 3 * TOLERANCE, output

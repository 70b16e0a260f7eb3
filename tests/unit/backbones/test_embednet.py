"""The packaged backbone is the file that its card describes, and it has learned something."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from offshelf.backbones.embednet import CARD, WEIGHTS
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.settings import Settings
from tests.reference.plain import forward

if TYPE_CHECKING:
    from offshelf.engine.torch_resident import TorchResident

MAX_BYTES = 6_000_000
DIGEST = "4103d5174c200d93a5538b0b0b972b1fc9d230c47e4ff714ecd06733ec3de367"
# Of two photographs, each l2-normalised feature's projection on a wave of cosines.
GOLDEN = {
    "fc6": [0.510903, -0.165237],
    "fc6:pre": [0.689662, -0.20621],
    "fc7": [0.892692, 1.31803],
    "fc7:pre": [0.157802, 1.008863],
}


@pytest.fixture(scope="module")
def resident() -> TorchResident:
    return TorchEngine(Settings(device="cpu")).load("embednet", None)


def test_the_file_is_small_and_the_one_of_its_provenance() -> None:
    about = json.loads(WEIGHTS.with_suffix(".json").read_text())
    data = WEIGHTS.read_bytes()
    assert len(data) == about["file"]["bytes"] <= MAX_BYTES
    assert hashlib.sha256(data).hexdigest() == about["file"]["sha256"]
    assert about["input"]["side"] == CARD.preprocessing.crop
    log = WEIGHTS.with_suffix(".log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["epoch"] == about["training"]["epochs_done"]


def test_it_comes_with_offshelf_and_says_so(resident: TorchResident) -> None:
    assert (resident.weights.source, resident.weights.label) == ("package", "embednet-1")
    assert not resident.weights.is_random
    assert "non-commercial" in resident.weights.licence
    assert resident.weights.digest == DIGEST


def test_features_of_two_photographs_are_what_they_were(resident: TorchResident) -> None:
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    inputs = np.stack([np.asarray(photo.resize((72, 72))) for photo in photographs])
    waves = np.cos(np.arange(1024))
    for tap, wanted in GOLDEN.items():
        output = Output(tap, "none", "l2")
        rows = forward(resident, inputs, [output])[output]
        assert rows.astype(float) @ waves == pytest.approx(wanted, abs=1e-4)

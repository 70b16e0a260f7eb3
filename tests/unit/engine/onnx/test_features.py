"""A network made for ONNX gives the features that the service gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import torch

from offshelf.core.spec import FeatureSpec, Merge, Preprocessing
from offshelf.engine.interface import Output
from offshelf.engine.onnx.features import FEATURES, INPUTS, FeatureNetwork, exported
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.whitening import Whitening
from offshelf.errors import InvalidParameter
from offshelf.settings import Settings

if TYPE_CHECKING:
    from offshelf.engine.torch_resident import TorchResident

PRE = Preprocessing(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def embednet() -> TorchResident:
    return TorchEngine(Settings(device="cpu")).load("embednet", None)


def pixels(resident: TorchResident, images: int, inputs: int) -> np.ndarray:
    """(N, k, S, S, 3) uint8; one image is black."""
    side = resident.card.preprocessing.crop
    values = np.random.default_rng(2).integers(0, 256, (images, inputs, side, side, 3), np.uint8)
    values[0] = 0
    return values


def served(resident: TorchResident, output: Output, values: np.ndarray) -> np.ndarray:
    rows = resident.forward([(image,) for image in values], [output])[output]
    return np.stack(rows).reshape(len(values), -1)


def whitening(D: int, K: int = 5) -> Whitening:
    rng = np.random.default_rng(1)
    spec = FeatureSpec("embednet", "0" * 64, "fc7", "center", PRE)
    return Whitening.of(rng.normal(size=D) / 10, rng.normal(size=(K, D)), spec)


@pytest.mark.parametrize("merge", ["mean", "concat", "stack"])
@pytest.mark.parametrize(
    ("tap", "pooling", "normalisation"),
    [
        ("conv5", "none", "none"), ("conv5", "avg", "l2"), ("conv5", "grid:2", "power:0.5,l2"),
        ("conv5:pre", "pyramid:1,2,3:avg", "l2,power:2"), ("conv2", "max", "power:3,l2"),
    ],
)  # fmt: skip
def test_features_are_the_service_s(
    embednet: TorchResident, tap: str, pooling: str, normalisation: str, merge: Merge
) -> None:
    output = Output(embednet.resolve_tap(tap)[0], pooling, normalisation, merge)
    values = pixels(embednet, 3, 2)
    expected = served(embednet, output, values)
    inputs = torch.from_numpy(values).permute(0, 1, 4, 2, 3).float()
    with torch.inference_mode():
        got = FeatureNetwork(embednet, output).eval()(inputs).numpy()
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_whitenings_are_in_it(embednet: TorchResident) -> None:
    tap = embednet.resolve_tap("penultimate")[0]
    values = pixels(embednet, 2, 1)
    plain = served(embednet, Output(tap), values)
    first, second = whitening(plain.shape[1]), whitening(5, 3)
    chain = f"l2,whiten:{first.digest},l2,whiten:{second.digest},power:2"
    output = Output(tap, "none", chain, "mean", (first, second))
    inputs = torch.from_numpy(values).permute(0, 1, 4, 2, 3).float()
    with torch.inference_mode():
        got = FeatureNetwork(embednet, output).eval()(inputs).numpy()
    assert np.allclose(got, served(embednet, output, values), rtol=1e-4, atol=1e-6)


def test_an_exported_network_takes_any_number_of_images(embednet: TorchResident) -> None:
    output = Output(embednet.resolve_tap("conv5")[0], "grid:2", "l2,power:2")
    made = exported(FeatureNetwork(embednet, output), 2, embednet.card.preprocessing.crop)
    assert not any(node.metadata_props or node.doc_string for node in made.graph.node)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    for images in (1, 3):
        values = pixels(embednet, images, 2)
        inputs = values.transpose(0, 1, 4, 2, 3).astype(np.float32)
        (got,) = session.run([FEATURES], {INPUTS: inputs})
        assert np.allclose(got, served(embednet, output, values), rtol=1e-4, atol=1e-6)


def test_what_the_exporter_cannot_follow_is_said(embednet: TorchResident) -> None:
    class Stubborn(FeatureNetwork):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.frexp(inputs.flatten(1)).mantissa

    output = Output(embednet.resolve_tap("conv5")[0], "avg")
    with pytest.raises(InvalidParameter, match="this network has no ONNX form"):
        exported(Stubborn(embednet, replace(output)), 1, 8)

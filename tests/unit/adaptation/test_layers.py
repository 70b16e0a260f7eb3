from __future__ import annotations

import numpy as np
import pytest
import torch

from offshelf.adaptation.layers import AdaptationLayers, scaled
from offshelf.errors import InvalidParameter


def some_layers(output: str = "softmax", scale: float = 3.0) -> AdaptationLayers:
    rng = np.random.default_rng(0)
    shapes = [(7, 12), (7,), (4, 7), (4,)]
    tensors = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    return AdaptationLayers(*tensors, scale, output)  # type: ignore[arg-type]


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_probabilities_are_those_of_the_same_layers_in_torch(output: str) -> None:
    layers = some_layers(output)
    features = np.random.default_rng(1).normal(size=(5, 3, 4)).astype(np.float32)
    net = torch.nn.Sequential(torch.nn.Linear(12, 7), torch.nn.ReLU(), torch.nn.Linear(7, 4))
    values = (layers.fca_weight, layers.fca_bias, layers.fcb_weight, layers.fcb_bias)
    for parameter, value in zip(net.parameters(), values, strict=True):
        parameter.data = torch.from_numpy(value)
    rows = torch.nn.functional.normalize(torch.from_numpy(features).flatten(1)) * 3
    logits = net(rows).detach()
    expected = logits.softmax(1) if output == "softmax" else logits.sigmoid()
    np.testing.assert_allclose(layers.probabilities(features), expected.numpy(), atol=1e-6)


def test_large_scores_neither_overflow_nor_warn() -> None:
    for output in ("softmax", "sigmoid"):
        found = some_layers(output, scale=1e6).probabilities(np.eye(12, dtype=np.float32))
        assert np.isfinite(found).all()


def test_layers_survive_their_file() -> None:
    layers = some_layers("sigmoid")
    again = AdaptationLayers.unpack(layers.pack())
    assert (again.scale, again.output) == (3.0, "sigmoid")
    np.testing.assert_array_equal(again.fca_weight, layers.fca_weight)
    np.testing.assert_array_equal(again.fcb_bias, layers.fcb_bias)
    with pytest.raises(InvalidParameter, match="not adaptation layers"):
        AdaptationLayers.unpack(b"something else")


def test_other_features_are_refused_and_none_are_none() -> None:
    layers = some_layers()
    with pytest.raises(InvalidParameter, match="features of 11 values; the layers take 12"):
        layers.probabilities(np.zeros((2, 11), np.float32))
    assert layers.probabilities(np.zeros((0, 12), np.float32)).shape == (0, 4)


def test_rows_get_their_length_and_zeros_stay() -> None:
    rows = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(scaled(rows, 10), [[6, 8], [0, 0]])
    assert scaled(rows, 0) is rows

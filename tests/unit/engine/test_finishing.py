"""Features are normalised right over all of float32, not only where their squares fit into it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offshelf.engine.finishing import normalise


def rows(scale: float) -> torch.Tensor:
    found = np.random.default_rng(7).standard_normal((4, 3, 5)) * scale
    return torch.from_numpy(found.astype(np.float32))


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-25, 1.0, 1e10, 1e19, 1e25, 1e38])
@pytest.mark.parametrize("leading", [1, 2])
def test_l2_is_that_of_float64_for_any_magnitude(scale: float, leading: int) -> None:
    values = rows(scale)
    exact = values.double().flatten(leading)
    want = (exact / exact.norm(dim=-1, keepdim=True)).view_as(values)
    got = normalise("l2", values, leading)
    torch.testing.assert_close(got.double(), want, rtol=2e-6, atol=0)


def test_l2_after_a_power_that_leaves_large_numbers() -> None:
    values = rows(1e7)
    exact = values.double().flatten(1)
    exact = exact.sign() * exact.abs() ** 4
    want = exact / exact.norm(dim=-1, keepdim=True)
    got = normalise("power:4,l2", values)
    torch.testing.assert_close(got.double().flatten(1), want, rtol=1e-5, atol=1e-37)


def test_ordinary_rows_keep_every_digit_and_zeros_stay_zeros() -> None:
    values = rows(3.0)
    plain = values.flatten(1) / values.flatten(1).norm(dim=-1, keepdim=True)
    assert torch.equal(normalise("l2", values).flatten(1), plain)
    assert torch.equal(normalise("l2", torch.zeros(2, 3)), torch.zeros(2, 3))
    mixed = normalise("l2", torch.tensor([[3e30, 4e30], [0.0, 0.0], [3.0, 4.0]]))
    torch.testing.assert_close(mixed, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]))

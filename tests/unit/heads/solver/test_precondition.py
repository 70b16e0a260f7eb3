"""The preconditioner against a dense matrix, on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from offshelf.heads.solver.precondition import STEEPER, Preconditioner
from offshelf.heads.solver.spaces import FeatureSpace, GramSpace, Space

IMAGES, DIMENSIONS, COLUMNS = 90, 70, 3


def spaces() -> tuple[torch.Tensor, list[Space]]:
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(IMAGES, DIMENSIONS, generator=generator, dtype=torch.float64)
    X *= torch.arange(1, DIMENSIONS + 1) ** -0.5
    return X, [FeatureSpace(X), GramSpace(X @ X.T)]


def weights(space: Space, X: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return v if isinstance(space, FeatureSpace) else X.T @ v


@pytest.mark.parametrize("side", [0, 1])
def test_the_basis_is_orthonormal_and_of_the_largest_directions(side: int) -> None:
    X, both = spaces()
    basis = both[side].basis
    directions = weights(both[side], X, basis.v)
    rank = basis.v.shape[1]
    assert rank == (7, 8)[side]
    np.testing.assert_allclose(directions.T @ directions, np.eye(rank), atol=1e-9)
    np.testing.assert_allclose(basis.scores, X @ directions, atol=1e-9)
    best = torch.linalg.svdvals(X)[:rank].square().sum()
    assert basis.scores.square().sum() > 0.9 * best


@pytest.mark.parametrize("penalty", [0.0, 0.25])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("side", [0, 1])
def test_it_inverts_the_hessian_in_the_basis_and_scales_the_rest(
    side: int, intercept: bool, penalty: float
) -> None:
    X, both = spaces()
    space = both[side]
    generator = torch.Generator().manual_seed(2)
    bends = torch.rand(IMAGES, COLUMNS, 1, generator=generator, dtype=torch.float64) * 5
    residual = torch.randn(space.rows, COLUMNS, 1, generator=generator, dtype=torch.float64)
    bias = torch.ones(COLUMNS, 1, dtype=torch.float64) * intercept
    made = Preconditioner.of(space, bends, penalty, intercept=intercept)
    v, scores, constants = made(residual, space.scores(residual), bias)
    span = weights(space, X, space.basis.v)
    outside = (X - X @ span @ span.T).square().sum() / IMAGES
    outside /= (DIMENSIONS, IMAGES)[side] - span.shape[1]
    for k in range(COLUMNS):
        given = weights(space, X, residual[:, k])[:, 0]
        with_bias = torch.cat([X @ span, torch.ones(IMAGES, 1)], 1) if intercept else X @ span
        hessian: Any = with_bias.T @ (bends[:, k] * with_bias)
        hessian += torch.diag(torch.tensor([1.0] * span.shape[1] + [penalty] * intercept))
        right = torch.cat([span.T @ given, bias[k]]) if intercept else span.T @ given
        solved = torch.linalg.solve(hessian, right)
        rest = (given - span @ (span.T @ given)) / (1 + STEEPER * outside * bends[:, k].sum())
        expected = rest + span @ solved[: span.shape[1]]
        found = weights(space, X, v[:, k])[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-8)
        np.testing.assert_allclose(scores[:, k, 0], X @ expected, atol=1e-8)
        np.testing.assert_allclose(constants[k, 0], solved[-1] if intercept else 0, atol=1e-8)


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_withheld_makes_up_for_the_scale_of_the_rest(side: int) -> None:
    X, both = spaces()
    space = both[side]
    generator = torch.Generator().manual_seed(3)
    bends = torch.rand(IMAGES, COLUMNS, 1, generator=generator, dtype=torch.float64) * 5
    residual = torch.randn(space.rows, COLUMNS, 1, generator=generator, dtype=torch.float64)
    scores = space.scores(residual)
    made = Preconditioner.of(space, bends, 0.0, intercept=False)
    v, _, _ = made(residual, scores, torch.zeros(COLUMNS, 1, dtype=torch.float64))
    span = weights(space, X, space.basis.v)
    withheld = made.withheld(residual, scores)
    for k in range(COLUMNS):
        given, found = (weights(space, X, each[:, k])[:, 0] for each in (residual, v))
        outside = given - span @ (span.T @ given)
        assert withheld[k] > 0
        assert float(outside @ found + withheld[k]) == pytest.approx(float(outside @ outside))


def test_images_that_are_all_the_same_leave_no_direction() -> None:
    space = FeatureSpace(torch.zeros(40, 30, dtype=torch.float64))
    made = Preconditioner.of(space, torch.ones(40, 1, 1).double(), 0.0, intercept=True)
    v = torch.ones(30, 1, 1, dtype=torch.float64)
    kept, _, constant = made(v, space.scores(v), torch.ones(1, 1, dtype=torch.float64))
    np.testing.assert_allclose(kept, v)
    np.testing.assert_allclose(constant, [[1 / 40]])

"""Products with one matrix that is used many times, by the fastest kernel of the device.

On a CPU torch's float32 `mm` and its oneDNN kernels may differ by a factor of two (measured: 205
and 440 GFLOP/s on two cores of a Zen 5); a matrix that is kept in oneDNN's format uses the latter.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

# Below so many elements the conversions cost more than the kernel gains.
ONEDNN_ELEMENTS: Final = 1 << 16
# Block rows of a symmetric product: only blocks on and below the diagonal are computed.
SYMMETRIC_BLOCKS: Final = 4


class Product:
    """`matrix @ v` for many v. `matrix` is (m, n)."""

    def __init__(self, matrix: Tensor) -> None:
        self.shape = matrix.shape
        self._onednn = suits_onednn(matrix)
        self._matrix = matrix.contiguous().to_mkldnn() if self._onednn else matrix

    def __call__(self, v: Tensor) -> Tensor:
        """(n, ...) to (m, ...)."""
        flat = v.reshape(self.shape[1], -1)
        if self._onednn and flat.shape[1]:
            right = flat.T.contiguous().to_mkldnn()
            product = functional.linear(self._matrix, right).to_dense()
        else:
            product = self._matrix @ flat
        return product.reshape(self.shape[0], *v.shape[1:])


def suits_onednn(matrix: Tensor) -> bool:
    """Whether oneDNN's format is to be had for this matrix, and worth it."""
    return (
        matrix.device.type == "cpu"
        and matrix.dtype == torch.float32
        and matrix.numel() >= ONEDNN_ELEMENTS
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    )


def gram(X: Tensor) -> Tensor:
    """`X @ X.T` (N, N), exactly symmetric; about half of the products that `mm` would do."""
    count = len(X)
    result = X.new_empty((count, count))
    edges = [count * i // SYMMETRIC_BLOCKS for i in range(SYMMETRIC_BLOCKS + 1)]
    for first, end in pairwise(edges):
        if first == end:
            continue
        result[first:end, :end] = cross(X[first:end], X[:end])
        result[:first, first:end] = result[first:end, :first].T
    return result


def cross(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right.T` (N, M) of (N, D) and (M, D)."""
    return Product(left)(right.T)

"""A PCA-whitening in use: an affine map of features, known by a digest of it and its spec."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from offshelf.errors import FingerprintMismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offshelf.core.spec import FeatureSpec


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """x -> matrix @ (x - mean), for the features of one FeatureSpec and no others.

    `mean` is (D,), `matrix` (K, D), both float32; `spec` is of the features it was fitted on.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    spec: FeatureSpec
    digest: str

    @classmethod
    def of(
        cls, mean: NDArray[np.floating], matrix: NDArray[np.floating], spec: FeatureSpec
    ) -> Whitening:
        """With its digest: sha256 of the spec's fingerprint, the shapes and little-endian float32.

        The mean comes first. The fingerprint counts because the same numbers may be fitted on
        features of two specs, and each is for its own alone.
        """
        tensors = [np.ascontiguousarray(tensor, "<f4") for tensor in (mean, matrix)]
        total = hashlib.sha256(spec.fingerprint.encode())
        for tensor in tensors:
            total.update(repr(tensor.shape).encode())
            total.update(tensor.tobytes())
        return cls(tensors[0], tensors[1], spec, total.hexdigest())

    @property
    def dimensions(self) -> int:
        """How many numbers come out."""
        return len(self.matrix)

    def check(self, spec: FeatureSpec, before: str) -> None:
        """FingerprintMismatch unless it was fitted on `spec` with the normalisation `before`."""
        offered = replace(spec, normalisation=before)
        if offered.fingerprint != self.spec.fingerprint:
            raise FingerprintMismatch(
                f"whiten:{self.digest} was fitted on other features: "
                + "; ".join(self.spec.differences(offered))
            )

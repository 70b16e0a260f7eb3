"""PCA-whitening: fitted on the features of a data set, stored by its digest, found again by it.

The pipeline it is for is that of Razavian et al. (CVPRW 2014): L2, whitening, L2, power.
Run as `python -m offshelf.heads.whitening <workdir> <parent>` it fits what is in `workdir`, as
`heads.fit` does for heads.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import safetensors
import safetensors.numpy

from offshelf.core.spec import FeatureSpec
from offshelf.engine.whitening import Whitening
from offshelf.errors import DependencyError, InvalidParameter, UnknownName
from offshelf.heads.features import read_metadata
from offshelf.heads.fit import run_child
from offshelf.schemas.transforms import Transform
from offshelf.store import layout

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from offshelf.schemas.feature_sets import FeatureSet
    from offshelf.store.interface import Store

# Features of more numbers than this would take hours and gigabytes: pool the maps.
MAX_INPUTS: Final = 16_384
# A direction with a smaller part of the first one's variance is what rounding left.
RANK_TOLERANCE: Final = 1e-12
CHUNK_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class WhiteningParams:
    """What is to be fitted: `X.npy` has `rows` good rows, each of `parts` features in a row."""

    dimensions: int
    epsilon: float
    rows: int
    parts: int = 1

    def write(self, workdir: Path) -> None:
        """Write `params.json`."""
        (workdir / "params.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, workdir: Path) -> WhiteningParams:
        """Read `params.json`."""
        return cls(**json.loads((workdir / "params.json").read_text()))


@dataclass(frozen=True, slots=True)
class Fitted:
    """`mean` (D,) and `matrix` (K, D); `explained` is the part of the variance that K keeps."""

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    explained: float
    samples: int

    def write(self, workdir: Path) -> None:
        """Write `whitening.safetensors`, which is whole or not there."""
        tensors = {"mean": self.mean, "matrix": self.matrix}
        told = {"explained": repr(self.explained), "samples": str(self.samples)}
        partial = workdir / "whitening.partial"
        partial.write_bytes(safetensors.numpy.save(tensors, told))
        partial.replace(workdir / "whitening.safetensors")

    @classmethod
    def read(cls, workdir: Path) -> Fitted:
        """Read `whitening.safetensors`."""
        data = (workdir / "whitening.safetensors").read_bytes()
        tensors, told = safetensors.numpy.load(data), read_metadata(data)
        samples = int(told["samples"])
        return cls(tensors["mean"], tensors["matrix"], float(told["explained"]), samples)


def fit(X: NDArray[np.float32], dimensions: int, epsilon: float = 0.0) -> Fitted:
    """Whiten X (N, D) to `dimensions` directions of largest variance, in float64.

    Variances have N - 1 below; `epsilon` is added to each before the root. The entry of largest
    magnitude of each direction is positive, so that the same features give the same numbers.
    Raises InvalidParameter for more dimensions than the features span, which it tells.
    """
    samples, inputs = X.shape
    if inputs > MAX_INPUTS:
        raise InvalidParameter(
            f"features of {inputs} numbers, and whitening takes up to {MAX_INPUTS}: pool them"
        )
    if samples < 2:
        raise InvalidParameter(f"whitening needs two features or more; there are {samples}")
    mean = _mean(X)
    small = samples <= inputs
    variances, directions = _few(X, mean) if small else _many(X, mean)
    _check_dimensions(variances, dimensions, samples, inputs)
    kept, basis = variances[:dimensions], directions[:dimensions]
    matrix = _signed(basis) / np.sqrt(kept + epsilon)[:, np.newaxis]
    explained = float(kept.sum() / variances.sum())
    return Fitted(mean.astype(np.float32), matrix.astype(np.float32), explained, samples)


def _mean(X: NDArray[np.float32]) -> NDArray[np.float64]:
    total = np.zeros(X.shape[1])
    for first in range(0, len(X), CHUNK_ROWS):
        total += X[first : first + CHUNK_ROWS].sum(axis=0, dtype=np.float64)
    return total / len(X)


def _few(
    X: NDArray[np.float32], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances and directions of fewer features than numbers, by SVD: largest first."""
    _, singular, directions = np.linalg.svd(X.astype(np.float64) - mean, full_matrices=False)
    return singular**2 / (len(X) - 1), directions


def _many(
    X: NDArray[np.float32], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same of any number of features, by the eigenvectors of their covariance."""
    scatter = np.zeros((X.shape[1], X.shape[1]))
    for first in range(0, len(X), CHUNK_ROWS):
        centred = X[first : first + CHUNK_ROWS].astype(np.float64) - mean
        scatter += centred.T @ centred
    variances, vectors = np.linalg.eigh(scatter / (len(X) - 1))
    return np.maximum(variances[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1].T)


def _check_dimensions(
    variances: NDArray[np.float64], dimensions: int, samples: int, inputs: int
) -> None:
    spanned = int(np.count_nonzero(variances > RANK_TOLERANCE * variances[0]))
    if dimensions > spanned:
        raise InvalidParameter(
            f"{dimensions} dimensions are too many: {samples} features of {inputs} numbers span "
            f"{spanned}, so ask for {spanned} at most"
            if spanned
            else f"the {samples} features are all the same: there is nothing to whiten"
        )


def _signed(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each direction turned so that its entry of largest magnitude is positive."""
    largest = np.abs(directions).argmax(axis=1)
    turned: NDArray[np.float64] = directions * np.sign(
        directions[np.arange(len(directions)), largest]
    ).reshape(-1, 1)
    return turned


def chosen_tap(features: FeatureSet, asked: str | None) -> str:
    """The tap of a feature set to fit on; InvalidParameter where it has to be named."""
    if asked is None and len(features.specs) == 1:
        return next(iter(features.specs))
    if asked not in features.specs:
        given = "none was named" if asked is None else f"not {asked!r}"
        raise InvalidParameter(
            f"feature set {features.id} has the taps {', '.join(features.specs)}; {given}: "
            "name one of them as `tap`"
        )
    return asked


def save(store: Store, whitening: Whitening, card: Transform) -> None:
    """Write a whitening, then its card; where it is there already, that one stays."""
    tensors = {"mean": whitening.mean, "matrix": whitening.matrix}
    data = safetensors.numpy.save(tensors, {"spec": json.dumps(whitening.spec.to_dict())})
    store.put_new(layout.whitening(whitening.digest), bytes(data))
    key = layout.transform_card(card.owner, card.id)
    store.put_new(key, card.model_dump_json().encode())


def load(store: Store, digest: str) -> Whitening:
    """The whitening of that digest.

    Raises UnknownName where there is none, and DependencyError for an object that is not what
    its name says.
    """
    try:
        data = store.get(layout.whitening(digest))
    except UnknownName:
        raise UnknownName(f"no transform {digest!r}: never fitted, or deleted") from None
    try:
        tensors = safetensors.numpy.load(data)
        spec = FeatureSpec.from_dict(json.loads(read_metadata(data)["spec"]))
        found = Whitening.of(tensors["mean"], tensors["matrix"], spec)
    except (safetensors.SafetensorError, InvalidParameter, KeyError, ValueError) as error:
        raise DependencyError(f"transform {digest} cannot be read: {error}") from error
    if found.digest != digest:
        raise DependencyError(f"transform {digest} is damaged: its contents have another digest")
    return found


def load_card(store: Store, owner: str, digest: str) -> Transform:
    """What is told of a whitening; UnknownName when there is none."""
    try:
        return Transform.model_validate_json(store.get(layout.transform_card(owner, digest)))
    except UnknownName:
        raise UnknownName(f"no transform {digest!r}") from None


def fit_in(workdir: Path) -> None:
    """Fit what is in a working directory and write the result there."""
    params = WhiteningParams.read(workdir)
    rows: NDArray[np.float32] = np.load(workdir / "X.npy", mmap_mode="r")[: params.rows]
    features = rows.reshape(params.rows * params.parts, -1)
    fit(features, params.dimensions, params.epsilon).write(workdir)


if __name__ == "__main__":
    sys.exit(run_child(fit_in, sys.argv[1:]))

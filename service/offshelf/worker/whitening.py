"""The job that fits a PCA-whitening on a feature set, whose shards are in the store already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offshelf.core.spec import FeatureSpec
from offshelf.engine.whitening import Whitening
from offshelf.errors import InvalidParameter
from offshelf.heads.features import load_feature_set, read_matrix, read_shards
from offshelf.heads.fit import versions
from offshelf.heads.whitening import Fitted, WhiteningParams, chosen_tap, save
from offshelf.schemas.transforms import Transform, TransformRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.schemas.feature_sets import FeatureSet
    from offshelf.store.interface import Store
    from offshelf.worker.training import Trainer

MODULE = "offshelf.heads.whitening"


def fit_whitening(
    store: Store,
    trainer: Trainer,
    owner: str,
    request: TransformRequest,
    check: Callable[[], None],
    now_s: float,
) -> Transform:
    """Fit in a child process, and store the result; what `check` raises kills the child."""
    features = load_feature_set(store, owner, request.feature_set)
    tap = chosen_tap(features, request.tap)
    spec = FeatureSpec.from_dict(features.specs[tap])
    with trainer.workdir() as folder:
        fitted = _fitted(store, trainer, features, tap, spec, request, Path(folder), check)
    whitening = Whitening.of(fitted.mean, fitted.matrix, spec)
    card = Transform(
        id=whitening.digest,
        owner=owner,
        name=request.name,
        step=f"whiten:{whitening.digest}",
        feature_set=features.id,
        tap=tap,
        spec=features.specs[tap],
        fingerprint=spec.fingerprint,
        inputs=len(fitted.mean),
        dimensions=request.dimensions,
        epsilon=request.epsilon,
        samples=fitted.samples,
        explained=fitted.explained,
        created_s=now_s,
        versions=versions(),
    )
    save(store, whitening, card)
    return card


def _fitted(
    store: Store,
    trainer: Trainer,
    features: FeatureSet,
    tap: str,
    spec: FeatureSpec,
    request: TransformRequest,
    workdir: Path,
    check: Callable[[], None],
) -> Fitted:
    place = (features.dataset, features.shelf(tap), features.shards)
    rows = len(read_matrix(store, *place, features.total, workdir / "X.npy").kept)
    if not rows:
        raise InvalidParameter(f"feature set {features.id} has no features")
    parts = _parts(store, place) if spec.merge == "stack" else 1
    WhiteningParams(request.dimensions, request.epsilon, rows, parts).write(workdir)
    trainer.run(MODULE, workdir, check)
    return Fitted.read(workdir)


def _parts(store: Store, place: tuple[str, str, int]) -> int:
    """How many features a stack has; each of them is a sample of its own."""
    shapes = (np.shape(shard.rows) for shard in read_shards(store, *place) if len(shard.kept))
    return int(next(shapes)[1])

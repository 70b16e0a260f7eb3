"""The last step of a feature set: what its job extracted, and with which libraries."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from offshelf import __version__
from offshelf.exports.commit import Extracted, commit
from offshelf.schemas.base import WeightsBody
from offshelf.worker.planning import Pinned, feature_set_id_of

if TYPE_CHECKING:
    from offshelf.core.jobs import Job
    from offshelf.schemas.datasets import Dataset
    from offshelf.schemas.feature_sets import FeatureSet
    from offshelf.store.interface import Store

LIBRARIES: Final = ("torch", "torchvision", "numpy", "pillow", "timm")


def commit_feature_set(store: Store, job: Job, dataset: Dataset, now_s: float) -> FeatureSet:
    """Commit the feature set of a job whose shards are all there."""
    pinned = Pinned.of(job)
    extracted = Extracted(
        id=feature_set_id_of(job),
        owner=job.owner,
        specs=pinned.specs,
        fingerprints=pinned.fingerprints,
        shelves=pinned.shelves,
        deterministic=pinned.deterministic,
        weights=WeightsBody(**pinned.weights),
        shard_images=pinned.shard_images,
        versions=library_versions(),
        created_s=now_s,
    )
    return commit(store, extracted, dataset)


def library_versions() -> dict[str, str]:
    """Those of this process: ours, and of the libraries that features depend on."""
    found = {"offshelf": __version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

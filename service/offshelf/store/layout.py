"""The names of the objects in the store: one function a kind of object."""

from __future__ import annotations


def blob(sha256: str) -> str:
    """An image by its content; shared by all datasets that hold it."""
    return f"blobs/{sha256[:2]}/{sha256}"


def dataset(owner: str, dataset_id: str) -> str:
    """The manifest of a dataset: written last, so it is the commit."""
    return f"{datasets(owner)}/{dataset_id}.json"


def datasets(owner: str) -> str:
    """The folder of an owner's dataset manifests."""
    return f"owners/{owner}/datasets"


def dataset_card(owner: str, dataset_id: str) -> str:
    """A dataset without its items, so that a list need not read manifests."""
    return f"owners/{owner}/dataset-cards/{dataset_id}.json"


def description(owner: str, dataset_id: str) -> str:
    """What a protocol read of a dataset: labels, regions and splits; there before the manifest."""
    return f"owners/{owner}/descriptions/{dataset_id}.json"


def shard(dataset_id: str, shelf: str, index: int) -> str:
    """The features of one shard of a dataset under one FeatureSpec (safetensors)."""
    return f"{shards(dataset_id, shelf)}/{index:06d}.safetensors"


def shards(dataset_id: str, shelf: str) -> str:
    """The folder of the shards of a dataset under one FeatureSpec."""
    return f"features/{dataset_id}/{shelf}"


def extracted(owner: str, shelf: str, dataset_id: str) -> str:
    """A mark: features of a dataset were begun under a FeatureSpec, so rows may be there."""
    return f"{extracted_datasets(owner, shelf)}/{dataset_id}"


def extracted_datasets(owner: str, shelf: str) -> str:
    """The folder of the marks of an owner's datasets with features under a FeatureSpec."""
    return f"owners/{owner}/extracted/{shelf}"


def reuse(owner: str, job_id: str) -> str:
    """For each item of a job's dataset, where its row stands among those of other datasets."""
    return f"owners/{owner}/reuse/{job_id}.npz"


def use(dataset_id: str, shelf: str, owner: str, feature_set_id: str) -> str:
    """A mark: a feature set has these shards."""
    return f"{uses(dataset_id, shelf)}/{owner}/{feature_set_id}"


def uses(dataset_id: str, shelf: str) -> str:
    """The folder of the marks of the feature sets that have these shards."""
    return f"uses/{dataset_id}/{shelf}"


def shard_plan(dataset_id: str) -> str:
    """How many images a shard of a dataset has: written once, as shards are found by number."""
    return f"features/{dataset_id}/plan.json"


def feature_set(owner: str, feature_set_id: str) -> str:
    """The manifest of a feature set: written last, so it is the commit."""
    return f"{feature_sets(owner)}/{feature_set_id}.json"


def feature_sets(owner: str) -> str:
    """The folder of an owner's feature-set manifests."""
    return f"owners/{owner}/feature-sets"


def head_weights(owner: str, head_id: str) -> str:
    """The weights of a head (safetensors)."""
    return f"{heads(owner)}/{head_id}/head.safetensors"


def head_card(owner: str, head_id: str) -> str:
    """The card of a head: written last, so it is the commit."""
    return f"{heads(owner)}/{head_id}/card.json"


def heads(owner: str) -> str:
    """The folder of an owner's heads."""
    return f"owners/{owner}/heads"


def whitening(digest: str) -> str:
    """A PCA-whitening by the digest of its tensors (safetensors)."""
    return f"whitenings/{digest}.safetensors"


def transform_card(owner: str, digest: str) -> str:
    """The card of a whitening: written last, so it is the commit."""
    return f"{transforms(owner)}/{digest}.json"


def transforms(owner: str) -> str:
    """The folder of the cards of an owner's whitenings."""
    return f"owners/{owner}/transforms"

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


def dataset_page(owner: str, dataset_id: str, page_items: int, number: int) -> str:
    """A page of a dataset's items (`datasets.pages`), there before the manifest."""
    return f"{dataset_pages(owner, dataset_id)}/{page_items}/{number:06d}"


def dataset_pages(owner: str, dataset_id: str) -> str:
    """The folder of a dataset's items."""
    return f"owners/{owner}/dataset-items/{dataset_id}"


def dataset_version(owner: str, name: str, version: int) -> str:
    """The id of the dataset that is this version of a name; written once, so it is a claim."""
    return f"{dataset_versions(owner, name)}/{version:09d}"


def dataset_versions(owner: str, name: str) -> str:
    """The folder of the versions of a dataset's name."""
    return f"owners/{owner}/dataset-names/{name}"


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


def feature_set_card(owner: str, feature_set_id: str) -> str:
    """A feature set without what it has for every image, so that a list need not read that."""
    return f"owners/{owner}/feature-set-cards/{feature_set_id}.json"


def feature_set_part(owner: str, feature_set_id: str, name: str) -> str:
    """What goes with a feature set: its table, its items, its exports."""
    return f"{feature_set_parts(owner, feature_set_id)}/{name}"


def feature_set_parts(owner: str, feature_set_id: str) -> str:
    """The folder of what goes with a feature set."""
    return f"owners/{owner}/feature-set-parts/{feature_set_id}"


def head(owner: str, head_id: str) -> str:
    """The folder of all that is kept of a head."""
    return f"{heads(owner)}/{head_id}"


def head_weights(owner: str, head_id: str) -> str:
    """The weights of a head (safetensors)."""
    return f"{heads(owner)}/{head_id}/head.safetensors"


def head_card(owner: str, head_id: str) -> str:
    """The card of a head: written last, so it is the commit."""
    return f"{heads(owner)}/{head_id}/card.json"


def head_naming(owner: str, head_id: str) -> str:
    """The name and version that a head got after its training: written once."""
    return f"{heads(owner)}/{head_id}/name.json"


def head_evaluation(owner: str, head_id: str) -> str:
    """What a head said of its test samples (safetensors); there before the card."""
    return f"{heads(owner)}/{head_id}/evaluation.safetensors"


def heads(owner: str) -> str:
    """The folder of an owner's heads."""
    return f"owners/{owner}/heads"


def head_export(owner: str, head_id: str, name: str) -> str:
    """What is told of a file that a worker made of a head: written last, so it is the commit."""
    return f"{heads(owner)}/{head_id}/exports/{name}.json"


def head_export_file(owner: str, head_id: str, sha256: str) -> str:
    """A file that a worker made of a head, by its content."""
    return f"{heads(owner)}/{head_id}/exports/{sha256}"


def head_version(owner: str, name: str, version: int) -> str:
    """Which head is this version of a name: written once, so it is a claim."""
    return f"{head_versions(owner, name)}/{version:09d}.json"


def head_versions(owner: str, name: str) -> str:
    """The folder of the versions of a name."""
    return f"{head_names(owner)}/{name}"


def head_names(owner: str) -> str:
    """The folder of the names of an owner's heads."""
    return f"owners/{owner}/head-names"


def head_tag_move(owner: str, name: str, tag: str, number: int) -> str:
    """Where a tag went: the highest number is where it stands."""
    return f"{head_tag(owner, name, tag)}/{number:09d}.json"


def head_tag(owner: str, name: str, tag: str) -> str:
    """The folder of one tag of a name."""
    return f"{head_tags(owner, name)}/{tag}"


def head_tags(owner: str, name: str) -> str:
    """The folder of the tags of a name."""
    return f"{all_head_tags(owner)}/{name}"


def all_head_tags(owner: str) -> str:
    """The folder of the tags of all names."""
    return f"owners/{owner}/head-tags"


def whitening(digest: str) -> str:
    """A PCA-whitening by the digest of its tensors (safetensors)."""
    return f"whitenings/{digest}.safetensors"


def transform_card(owner: str, digest: str) -> str:
    """The card of a whitening: written last, so it is the commit."""
    return f"{transforms(owner)}/{digest}.json"


def transforms(owner: str) -> str:
    """The folder of the cards of an owner's whitenings."""
    return f"owners/{owner}/transforms"

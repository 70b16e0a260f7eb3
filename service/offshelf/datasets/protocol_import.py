"""Makes a dataset of an uploaded copy of a published data set, as its protocol reads it.

A sample of the protocol is an item of the dataset: an image, or a region of one.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from offshelf.datasets import records
from offshelf.datasets.outline import only_folder, unpack
from offshelf.datasets.taking import Skipped, Taken, Taking
from offshelf.errors import InvalidParameter, TooLarge
from offshelf.schemas.datasets import DatasetHead, DatasetItem, DatasetProtocol, SplitCounts
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from offshelf.core.boxes import Box
    from offshelf.datasets.importing import Wanted
    from offshelf.datasets.interface import Collection, ImportLimits, Watch
    from offshelf.datasets.protocols.interface import Description, Item, Protocol
    from offshelf.store.interface import Store

# By path, as the description has it.
Images: TypeAlias = "Mapping[str, Taken]"


def import_protocol(
    store: Store,
    collection: Collection,
    protocol: Protocol,
    wanted: Wanted,
    limits: ImportLimits,
    watch: Watch,
) -> tuple[DatasetHead, bool]:
    """Read a collection by a protocol and take in what it names; the dataset, and if it is new.

    The official layout may be in one folder more. The collection is gone through twice: for the
    lists, then for the images that they name. An image that cannot be read stays a sample, as the
    official splits count it, and is listed. The manifest comes last, so a broken upload leaves no
    dataset. Raises InvalidParameter with what is missing, TooLarge and the store's
    DependencyError.
    """
    description, prefix = _described(collection, protocol, limits, watch)
    taking = Taking(store, limits, copied=wanted.copied, keep_faulty=True)
    images, skipped = _taken(taking, collection, description, prefix, limits, watch)
    items = items_of(description, images)
    head = wanted.head(
        id=_id(description, items),
        layout=protocol.card.name,
        classes=list(description.classes),
        counts=summary(description).counts,
        total=len(items),
        bytes=sum(item.bytes for item in items),
        skipped=skipped.files,
        skipped_total=skipped.total,
        protocol=summary(description),
    )
    key = layout.description(wanted.owner, head.id)
    store.put_new(key, description.model_dump_json().encode())
    return records.add(store, head, items)


def items_of(description: Description, images: Images) -> list[DatasetItem]:
    """The samples of a copy, in the order of its description."""
    regions = region_names(description.items)
    return [
        DatasetItem(
            path=item.key,
            label="" if description.multi_label else description.classes[item.labels[0]],
            sha256=images[item.path].sha256,
            bytes=images[item.path].bytes,
            boxes=boxes(item, regions),
            source=images[item.path].source,
        )
        for item in description.items
    ]


def id_of_copy(description: Description, folder: Path) -> str:
    """The id that the dataset of a copy on this machine has, or would have; reads every image.

    `folder` is the data set's own, to which the description's paths are relative.
    """
    images: dict[str, Taken] = {}
    for path in dict.fromkeys(item.path for item in description.items):
        with (folder / path).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        images[path] = Taken(path, sha256=sha256)
    return _id(description, items_of(description, images))


def summary(description: Description) -> DatasetProtocol:
    """What lists show of the protocol's side of a dataset."""
    targets = description.targets()
    if description.multi_label:
        counts = (targets == 1).sum(axis=0)
    else:
        counts = np.bincount(targets, minlength=len(description.classes))
    return DatasetProtocol(
        name=description.protocol,
        multi_label=description.multi_label,
        metrics=list(description.metrics),
        regions=list(region_names(description.items)),
        counts=dict(zip(description.classes, counts.tolist(), strict=True)),
        splits=[
            SplitCounts(name=s.name, train=len(s.train), val=len(s.val), test=len(s.test))
            for s in description.splits
        ],
    )


def region_names(items: Iterable[Item]) -> tuple[str, ...]:
    """The regions that samples of a data set have, sorted: the order of their features in a row."""
    return tuple(sorted({region.name for item in items for region in item.regions}))


def boxes(item: Item, regions: Sequence[str]) -> list[Box | None]:
    """The boxes of a sample, None for a region that it lacks.

    Where samples have one region at most, one without it is its whole image.
    """
    known = {region.name: region.box for region in item.regions}
    if not known and len(regions) <= 1:
        return []
    if not known:
        raise InvalidParameter(f"{item.key}: none of the regions {', '.join(regions)} is there")
    return [known.get(name) for name in regions]


def _described(
    collection: Collection, protocol: Protocol, limits: ImportLimits, watch: Watch
) -> tuple[Description, str]:
    """What the protocol reads, and where in the collection its paths begin."""
    with tempfile.TemporaryDirectory(prefix="offshelf-dataset-") as scratch:
        top = Path(scratch)
        unpack(collection, top, limits, watch)
        root = protocol.locate(top)
        if root == top:
            root = protocol.locate(only_folder(top))
        try:
            description = protocol.read(root)
        except InvalidParameter as error:
            card = protocol.card
            raise InvalidParameter(
                f"{collection.what} does not hold {card.title} as {card.name} reads it: {error}; "
                f"the layout is {'; '.join(card.layout)}"
            ) from error
        inside = root.relative_to(top).as_posix()
    return description, "" if inside == "." else f"{inside}/"


def _taken(
    taking: Taking,
    collection: Collection,
    description: Description,
    prefix: str,
    limits: ImportLimits,
    watch: Watch,
) -> tuple[Images, Skipped]:
    """The images that the description names, and those among them that cannot be read."""
    paths = {prefix + item.path for item in description.items}
    watch.found(len(paths))
    images: dict[str, Taken] = {}
    skipped = Skipped()
    members = (member for member in collection.members() if member.path in paths)
    for taken in taking.all(collection, members, watch):
        if not taken.sha256:
            kind = TooLarge if taken.bytes > limits.max_image_bytes else InvalidParameter
            raise kind(f"{taken.path.removeprefix(prefix)!r}: {taken.fault}")
        if taken.fault:
            skipped.add(taken.path, taken.fault)
        images[taken.path.removeprefix(prefix)] = taken
    if missing := [path for path in paths if path.removeprefix(prefix) not in images]:
        raise InvalidParameter(f"{missing[0]!r} has gone while {collection.what} was read")
    return images, skipped


def _id(description: Description, items: Sequence[DatasetItem]) -> str:
    digest = hashlib.sha256(description.model_dump_json().encode())
    for item in items:
        digest.update(item.sha256.encode())
    return f"ds-{digest.hexdigest()[:24]}"

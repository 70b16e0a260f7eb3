"""Makes a dataset of an uploaded copy of a published data set, as its protocol reads it.

A sample of the protocol is an item of the dataset: an image, or a region of one.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np

from offshelf.datasets import records
from offshelf.datasets.archive import read_archive
from offshelf.datasets.blobs import BlobWriter
from offshelf.datasets.outline import only_folder, unpack
from offshelf.errors import InvalidParameter, TooLarge
from offshelf.schemas.datasets import Dataset, DatasetItem, DatasetProtocol, SplitCounts
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from offshelf.core.boxes import Box
    from offshelf.datasets.interface import ArchiveLimits
    from offshelf.datasets.protocols.interface import Description, Item, Protocol
    from offshelf.store.interface import Store

# Path, as the description has it -> sha256 and bytes.
Images: TypeAlias = "Mapping[str, tuple[str, int]]"


def import_protocol(
    store: Store,
    file: BinaryIO,
    protocol: Protocol,
    *,
    owner: str,
    name: str,
    limits: ArchiveLimits,
    now_s: float,
) -> tuple[Dataset, bool]:
    """Read an archive by a protocol and store what it names; the dataset, and whether it is new.

    `file` is a seekable zip or tar of the official layout, perhaps in one folder more. It is gone
    through twice: for the lists, then for the images that they name. The manifest comes last, so
    a broken upload leaves no dataset. Raises InvalidParameter with what is missing, TooLarge and
    the store's DependencyError.
    """
    description, prefix = _described(file, protocol, limits)
    images = _store_images(store, file, description, prefix, limits)
    dataset = dataset_of(description, images, owner=owner, name=name, now_s=now_s)
    key = layout.description(owner, dataset.id)
    store.put_new(key, description.model_dump_json().encode())
    return records.add(store, dataset)


def dataset_of(
    description: Description, images: Images, *, owner: str, name: str, now_s: float
) -> Dataset:
    """The dataset of a copy; its id is derived from what the protocol read and from all pixels."""
    regions = region_names(description.items)
    items = [
        DatasetItem(
            path=item.key,
            label="" if description.multi_label else description.classes[item.labels[0]],
            sha256=images[item.path][0],
            bytes=images[item.path][1],
            boxes=boxes(item, regions),
        )
        for item in description.items
    ]
    return Dataset(
        id=_id(description, items),
        owner=owner,
        name=name,
        created_s=now_s,
        classes=list(description.classes),
        items=items,
        protocol=summary(description),
    )


def id_of_copy(description: Description, folder: Path) -> str:
    """The id that the dataset of a copy on this machine has, or would have; reads every image.

    `folder` is the data set's own, to which the description's paths are relative.
    """
    images: dict[str, tuple[str, int]] = {}
    for path in dict.fromkeys(item.path for item in description.items):
        with (folder / path).open("rb") as file:
            images[path] = (hashlib.file_digest(file, "sha256").hexdigest(), 0)
    return dataset_of(description, images, owner="", name="", now_s=0.0).id


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
    file: BinaryIO, protocol: Protocol, limits: ArchiveLimits
) -> tuple[Description, str]:
    """What the protocol reads, and where in the archive its paths begin."""
    with tempfile.TemporaryDirectory(prefix="offshelf-dataset-") as scratch:
        top = Path(scratch)
        unpack(file, top, limits)
        root = protocol.locate(top)
        if root == top:
            root = protocol.locate(only_folder(top))
        try:
            description = protocol.read(root)
        except InvalidParameter as error:
            card = protocol.card
            raise InvalidParameter(
                f"the archive does not hold {card.title} as {card.name} reads it: {error}; "
                f"the layout is {'; '.join(card.layout)}"
            ) from error
        inside = root.relative_to(top).as_posix()
    return description, "" if inside == "." else f"{inside}/"


def _store_images(
    store: Store, file: BinaryIO, description: Description, prefix: str, limits: ArchiveLimits
) -> Images:
    wanted = {item.path for item in description.items}
    images: dict[str, tuple[str, int]] = {}
    with BlobWriter(store, limits.max_image_bytes) as writer:
        for member in read_archive(file, limits):
            path = member.path.removeprefix(prefix)
            if path not in wanted or not member.path.startswith(prefix):
                continue
            if member.size > limits.max_image_bytes:
                raise TooLarge(
                    f"{path!r} has {member.size} bytes; the limit is {limits.max_image_bytes}"
                )
            images[path] = writer.add(member)
    return images


def _id(description: Description, items: Sequence[DatasetItem]) -> str:
    digest = hashlib.sha256(description.model_dump_json().encode())
    for item in items:
        digest.update(item.sha256.encode())
    return f"ds-{digest.hexdigest()[:24]}"

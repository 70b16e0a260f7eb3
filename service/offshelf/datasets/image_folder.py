"""Makes a dataset of plain folders of images, `<class>/<image>`, or adds such to a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.datasets import records
from offshelf.datasets.interface import is_hidden, is_image
from offshelf.datasets.staging import Staging
from offshelf.datasets.taking import Skipped, Taking
from offshelf.errors import InvalidParameter
from offshelf.schemas.datasets import FOLDER, DatasetHead, DatasetItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.datasets.importing import Wanted
    from offshelf.datasets.interface import Collection, ImportLimits, Member, Watch
    from offshelf.datasets.survey import Survey
    from offshelf.store.interface import Store

SHOWN: Final = 5


def import_folders(
    store: Store,
    collection: Collection,
    seen: Survey,
    wanted: Wanted,
    limits: ImportLimits,
    watch: Watch,
) -> tuple[DatasetHead, bool]:
    """Take in the images of a collection and commit the dataset they make; whether it is new.

    The manifest comes last, so a broken upload leaves no dataset. The id is derived from paths,
    labels and content: the same images give the first dataset again, whatever it is called now.
    Only headers are looked at: what is wrong with the pixels of an image becomes an error of its
    own when features are extracted. Raises InvalidParameter, TooLarge and the store's
    DependencyError.
    """
    seen.check_folders(collection.what)
    watch.found(seen.images)
    skipped = Skipped()
    with Staging(watch.check) as staging:
        if wanted.parent is not None:
            _stage_parent(store, wanted.parent, staging)
        members = _images(collection, skipped)
        for taken in Taking(store, limits, copied=wanted.copied).all(collection, members, watch):
            if taken.fault:
                skipped.add(taken.path, taken.fault)
                continue
            path = taken.path.split("/", seen.down)[-1]
            label = path.partition("/")[0]
            staging.add(DatasetItem(path, label, taken.sha256, taken.bytes, source=taken.source))
        head = _head(staging, skipped, wanted, collection.what)
        return records.add(store, head, staging)


def _images(collection: Collection, skipped: Skipped) -> Iterator[Member]:
    for member in collection.members():
        if is_hidden(member.path):
            skipped.add(member.path, "hidden")
        elif not is_image(member.path):
            skipped.add(member.path, member.refused or "no image by its name")
        else:
            yield member


def _stage_parent(store: Store, parent: DatasetHead, staging: Staging) -> None:
    for item in records.load(store, parent.owner, parent.id).items:
        staging.add(item)


def _head(staging: Staging, skipped: Skipped, wanted: Wanted, what: str) -> DatasetHead:
    counts = staging.counts()
    if not counts:
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in skipped.files[:SHOWN])
        raise InvalidParameter(f"{what} has no image that can be read: {reasons}")
    return wanted.head(
        id=staging.dataset_id(),
        layout=FOLDER,
        classes=list(counts),
        counts=counts,
        total=sum(counts.values()),
        bytes=staging.bytes(),
        skipped=skipped.files,
        skipped_total=skipped.total,
    )

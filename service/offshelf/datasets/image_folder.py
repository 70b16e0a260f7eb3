"""Makes a dataset of an uploaded image folder, `<class>/<image>`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from offshelf.datasets import records
from offshelf.datasets.archive import read_archive
from offshelf.datasets.blobs import BlobWriter
from offshelf.datasets.interface import is_image
from offshelf.errors import InvalidParameter
from offshelf.schemas.datasets import Dataset, DatasetItem

if TYPE_CHECKING:
    from offshelf.datasets.interface import ArchiveLimits, Member
    from offshelf.store.interface import Store

LAYOUT: Final = "the layout is <class>/<image>, in one folder more at most"
MAX_SKIPPED: Final = 1000


@dataclass(slots=True)
class _Found:
    """What an archive turned out to hold."""

    images: list[tuple[str, str, int]] = field(default_factory=list)  # path, sha256, bytes
    skipped: list[str] = field(default_factory=list)
    skipped_more: int = 0

    def skip(self, path: str, reason: str) -> None:
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(f"{path} ({reason})")
        else:
            self.skipped_more += 1

    def all_skipped(self) -> list[str]:
        more = [f"and {self.skipped_more} more"] if self.skipped_more else []
        return self.skipped + more


def import_archive(
    store: Store, file: BinaryIO, *, owner: str, name: str, limits: ArchiveLimits, now_s: float
) -> tuple[Dataset, bool]:
    """Store the images of an archive and the dataset they make; whether it is new.

    `file` is a seekable zip or tar. Images are stored under their sha256 and the manifest comes
    last, so a broken upload leaves no dataset. The id is derived from paths, labels and content:
    the same upload gives the first dataset again, whatever it is called now. Images are not
    decoded: one that cannot be read becomes an error of its own when features are extracted.
    Raises InvalidParameter, TooLarge and the store's DependencyError.
    """
    found = _store_images(store, file, limits)
    items = _items(found)
    dataset = Dataset(
        id=dataset_id(items),
        owner=owner,
        name=name,
        created_s=now_s,
        classes=sorted({item.label for item in items}),
        items=items,
        skipped=found.all_skipped(),
    )
    return records.add(store, dataset)


def dataset_id(items: list[DatasetItem]) -> str:
    """The name of a dataset by its content: a sha256 over sorted paths, labels and digests."""
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.path):
        digest.update(f"{item.path}\0{item.label}\0{item.sha256}\n".encode())
    return f"ds-{digest.hexdigest()[:24]}"


def _store_images(store: Store, file: BinaryIO, limits: ArchiveLimits) -> _Found:
    found = _Found()
    with BlobWriter(store, limits.max_image_bytes) as writer:
        for member in read_archive(file, limits):
            if reason := _why_skip(member, limits):
                found.skip(member.path, reason)
            else:
                found.images.append((member.path, *writer.add(member)))
    return found


def _why_skip(member: Member, limits: ArchiveLimits) -> str | None:
    segments = member.path.split("/")
    if "__MACOSX" in segments or any(segment.startswith(".") for segment in segments):
        return "hidden"
    if not is_image(member.path):
        return "no image by its name"
    if member.size > limits.max_image_bytes:
        return f"over {limits.max_image_bytes} bytes"
    return None


def _items(found: _Found) -> list[DatasetItem]:
    """The images by path, without the folder that all of them may share."""
    if not found.images:
        skipped = f"; skipped: {', '.join(found.skipped[:5])}" if found.skipped else ""
        raise InvalidParameter(f"the archive has no images ({LAYOUT}){skipped}")
    split = [path.split("/") for path, _, _ in found.images]
    strip = len({parts[0] for parts in split}) == 1 and all(len(parts) > 2 for parts in split)
    items = []
    for (path, sha256, size), parts in zip(found.images, split, strict=True):
        kept = parts[1:] if strip else parts
        if len(kept) != 2:
            where = "at the root, outside any class" if len(kept) == 1 else "too deep"
            raise InvalidParameter(f"image {path!r} lies {where}; {LAYOUT}")
        items.append(DatasetItem(path="/".join(kept), label=kept[0], sha256=sha256, bytes=size))
    return sorted(items, key=lambda item: item.path)

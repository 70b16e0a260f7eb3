"""Makes a dataset of a collection of files, whichever layout it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offshelf.datasets.image_folder import import_folders
from offshelf.datasets.interface import Unwatched
from offshelf.datasets.protocol_import import import_protocol
from offshelf.datasets.protocols.interface import PROTOCOLS
from offshelf.datasets.survey import protocol_of, survey
from offshelf.errors import InvalidParameter
from offshelf.schemas.datasets import FOLDER, DatasetHead

if TYPE_CHECKING:
    from offshelf.datasets.interface import Collection, ImportLimits, Watch
    from offshelf.store.interface import Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of an import.

    `layout` is `auto` or `folder`; a `protocol` by its name decides for itself. `source` is where
    a collection is registered, and unless it is `copied` its images stay there. Images are added
    to those of the `parent`, whose name the dataset then has.
    """

    owner: str
    name: str
    now_s: float
    protocol: str | None = None
    layout: str = "auto"
    source: str | None = None
    copied: bool = True
    parent: DatasetHead | None = None

    def check(self) -> None:
        """InvalidParameter for what cannot be together, UnknownName for an unknown protocol."""
        if self.protocol and self.layout == FOLDER:
            raise InvalidParameter("say protocol or layout=folder, not both")
        if self.protocol:
            PROTOCOLS.get(self.protocol)
        if self.parent is not None and self.parent.protocol is not None:
            raise InvalidParameter(
                f"dataset {self.parent.id} was read by the protocol {self.parent.layout}, whose "
                "lists say which images there are: upload the whole as a dataset of its own"
            )

    def head(self, **found: Any) -> DatasetHead:
        """The manifest of what was found; its version is still to be given."""
        return DatasetHead(
            **found,
            owner=self.owner,
            name=self.name if self.parent is None else self.parent.name,
            version=0,
            parent=self.parent.id if self.parent else None,
            created_s=self.now_s,
            source=self.source,
            copied=self.copied,
            page_items=0,
        )


def import_dataset(
    store: Store,
    collection: Collection,
    wanted: Wanted,
    limits: ImportLimits,
    watch: Watch | None = None,
) -> tuple[DatasetHead, bool]:
    """The dataset that a collection makes, and whether it is new.

    Without a protocol the layout is told by the names of the files (`survey`). Raises
    InvalidParameter, UnknownName, TooLarge, the store's DependencyError, and what `watch` raises.
    """
    watch = watch or Unwatched()
    wanted.check()
    if wanted.protocol:
        protocol = PROTOCOLS.get(wanted.protocol)
        return import_protocol(store, collection, protocol, wanted, limits, watch)
    seen = survey(collection, limits.max_files, watch)
    plain = wanted.layout == FOLDER or wanted.parent is not None
    detected = None if plain else protocol_of(seen, collection.what)
    if detected is None:
        return import_folders(store, collection, seen, wanted, limits, watch)
    protocol = PROTOCOLS.get(detected)
    return import_protocol(store, collection, protocol, wanted, limits, watch)

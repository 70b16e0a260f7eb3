"""Gives the bytes of a dataset's images, wherever they are kept."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from offshelf.datasets.sources import NO_SOURCES, SETTING
from offshelf.errors import DependencyError, InvalidImage, InvalidParameter, UnknownName
from offshelf.store import layout

if TYPE_CHECKING:
    from offshelf.datasets.sources import Sources
    from offshelf.schemas.datasets import DatasetItem
    from offshelf.store.interface import Store


class ImageReader:
    """Reads items of datasets: uploads and copies from `store`, the others from `sources`."""

    def __init__(self, store: Store, sources: Sources = NO_SOURCES) -> None:
        self._store = store
        self._sources = sources

    def read(self, item: DatasetItem) -> bytes:
        """The image, as it was when the dataset was made.

        InvalidImage where its file has changed or is gone since, and nobody has uploaded the
        image to the store either. DependencyError where this process cannot look for the file at
        all (another one may), or where the store has lost the image.
        """
        if not item.source:
            return self._in_store(item)
        try:
            image = self._in_source(item)
            fault = "its bytes are others"
        except InvalidImage as error:
            image, fault = b"", str(error)
        if hashlib.sha256(image).hexdigest() == item.sha256:
            return image
        try:
            return self._store.get(layout.blob(item.sha256))
        except UnknownName:
            raise InvalidImage(f"it has changed since it was registered: {fault}") from None

    def _in_store(self, item: DatasetItem) -> bytes:
        try:
            return self._store.get(layout.blob(item.sha256))
        except UnknownName as error:
            raise DependencyError(
                f"the store has lost the image {item.path!r}: {error}",
                public=f"the store has lost the image {item.path!r}",
            ) from error

    def _in_source(self, item: DatasetItem) -> bytes:
        try:
            source = self._sources.open(item.source)
        except InvalidParameter as error:
            raise DependencyError(
                f"{error}, and a dataset was registered there",
                public=f"a worker may not read where the dataset was registered; see {SETTING}",
            ) from error
        if not self._sources.has(item.source):
            raise DependencyError(
                f"the folder that holds {item.source!r} is not there",
                public="the place where the dataset was registered is not there now",
            )
        return source.read(item.bytes)

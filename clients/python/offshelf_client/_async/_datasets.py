"""`client.datasets`: uploading labelled images, and finding them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client import _io_async
from offshelf_client._archive import absolute, archive
from offshelf_client._async._pages import rows
from offshelf_client._models import Dataset, dataset_of
from offshelf_client._progress import ProgressOption, showing
from offshelf_client._wire import Call, archive_form, at

if TYPE_CHECKING:
    from os import PathLike

    from offshelf_client._async._transport import AsyncTransport


class AsyncDatasets:
    """`client.datasets`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(
        self,
        source: str | PathLike[str],
        *,
        name: str | None = None,
        protocol: str | None = None,
        progress: ProgressOption = False,
    ) -> Dataset:
        """Upload a folder with a sub-folder of images for each class, or such an archive.

        `source` is a folder or a .tar, .tar.gz or .zip file; `name` is the folder's unless
        given. The same images uploaded again are the same dataset. With a `protocol` such as
        `voc2007` the service reads the data set's official layout, with its labels, boxes and
        splits. Raises UnreadableImage, TooLargeError, UnsupportedMediaError, and
        InvalidParameterError, which says what a protocol misses. Examples:
        `dataset = await client.datasets.upload("flowers/", progress=True)`,
        `await client.datasets.upload("VOCdevkit/", protocol="voc2007")`.
        """
        path = absolute(source)
        packing = archive(path, whole=protocol is not None)
        filename, file = await _io_async.blocking(packing.__enter__)
        try:
            with showing(progress) as show:
                texts = {"name": name or path.name.split(".")[0], "protocol": protocol}
                body = archive_form(filename, file, texts, self._transport.timeout, show)
                data = await self._transport.json(Call("POST", "/v1/datasets", body))
        finally:
            packing.__exit__(None, None, None)
        return dataset_of(data)

    async def get(self, dataset_id: str) -> Dataset:
        """A dataset by its id, or UnknownNameError. Example: `await client.datasets.get(id)`."""
        return dataset_of(await self._transport.json(Call("GET", at("datasets", dataset_id))))

    async def list(self, limit: int | None = None) -> list[Dataset]:
        """All datasets, or the first `limit`. Example: `await client.datasets.list()`."""
        found = await rows(self._transport, "/v1/datasets", limit)
        return [dataset_of(data) for data in found]

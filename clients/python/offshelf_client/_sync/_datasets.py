# Generated from _async by generate_sync.py; edit there.
"""`client.datasets`: uploading and registering labelled images, and finding them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from offshelf_client import _io_sync
from offshelf_client._archive import Packed, absolute, archive
from offshelf_client._models import Dataset, dataset_of, job_of
from offshelf_client._progress import ProgressOption, showing
from offshelf_client._sync._job import Job
from offshelf_client._sync._pages import rows
from offshelf_client._wire import Call, archive_form, at, query, submission

if TYPE_CHECKING:
    from os import PathLike

    from offshelf_client._sync._transport import Transport


class Datasets:
    """`client.datasets`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        source: str | PathLike[str],
        *,
        name: str | None = None,
        protocol: str | None = None,
        layout: Literal["auto", "folder"] = "auto",
        progress: ProgressOption = False,
    ) -> Dataset:
        """Upload a folder of images, or an archive of one; the answer's `layout` says how it is.

        `source` is a folder or a .tar, .tar.gz or .zip file; `name` is the folder's unless
        given. Layouts are: a sub-folder of images for each class; a table `labels.csv`; the
        official one of a protocol, which is read with its labels, boxes and splits. The service
        tells it by the names of the files, or is told by `protocol`, such as `voc2007`; or by
        `layout="folder"`, which takes folders for classes, whatever lists lie beside them.

        The same images uploaded again are the same dataset; others under the same name are its
        next version. Files that are no images are listed in `skipped`. Raises UnreadableImage,
        TooLargeError, UnsupportedMediaError, and InvalidParameterError, which says what a
        protocol misses, or which ones to choose from. Examples:
        `dataset = client.datasets.upload("flowers/", progress=True)`,
        `client.datasets.upload("VOCdevkit/", protocol="voc2007")`.
        """
        path = absolute(source)
        packed: Packed = "images and lists"
        if protocol is not None:
            packed = "all"
        elif layout == "folder":
            packed = "images"
        texts = {"name": name or path.name.split(".")[0], "protocol": protocol}
        texts |= {} if layout == "auto" else {"layout": layout}
        return self._upload("/v1/datasets", source, packed, texts, progress)

    def register(
        self,
        source: str,
        *,
        name: str | None = None,
        protocol: str | None = None,
        layout: Literal["auto", "folder"] = "auto",
        copy: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """Make a dataset of images that the service can reach: a job, which reads all of them.

        `source` is a folder of the service's machine or `s3://bucket/prefix`, below one of the
        places that it is allowed to read. Without `copy` images stay there; one that changes
        later is an error of its own wherever it is read. The other parameters are `upload`'s.
        Example: `dataset = (client.datasets.register("/data/flowers")).dataset()`.
        """
        body = {"source": source, "name": name, "protocol": protocol, "layout": layout}
        return self._submit("/v1/datasets", body | {"copy": copy}, idempotency_key)

    def add_images(
        self,
        dataset: Dataset | str,
        source: str | PathLike[str],
        *,
        progress: ProgressOption = False,
    ) -> Dataset:
        """Make the next version of a dataset: its images, and those of a folder or an archive.

        The dataset itself stays as it is. `source` has a sub-folder for each class. Raises
        InvalidParameterError where a path is taken by another image.
        Example: `client.datasets.add_images(dataset, "more-flowers/")`.
        """
        path = at("datasets", _id(dataset), "images")
        return self._upload(path, source, "images", {}, progress)

    def add_registered(
        self,
        dataset: Dataset | str,
        source: str,
        *,
        copy: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """`add_images` of images that the service can reach; see `register`.

        Example: `job = client.datasets.add_registered(dataset, "/data/more-flowers")`.
        """
        path = at("datasets", _id(dataset), "images")
        return self._submit(path, {"source": source, "copy": copy}, idempotency_key)

    def get(self, dataset: str) -> Dataset:
        """A dataset by its id or name (`flowers`: the newest, `flowers:2`), or UnknownNameError.

        Example: `client.datasets.get("flowers")`.
        """
        return dataset_of(self._transport.json(Call("GET", at("datasets", dataset))))

    def list(self, limit: int | None = None, *, name: str | None = None) -> list[Dataset]:
        """All datasets, or the first `limit`; with `name` its versions, newest first.

        Example: `client.datasets.list()`.
        """
        found = rows(self._transport, "/v1/datasets", limit, name=name)
        return [dataset_of(data) for data in found]

    def delete(self, dataset: Dataset | str, *, feature_sets: bool = False) -> None:
        """Remove a dataset, and with `feature_sets` those made of it; heads stay.

        Raises InUseError while it has feature sets that are to stay, or a job is at work on it.
        Example: `client.datasets.delete(dataset)`.
        """
        body = query(feature_sets="true" if feature_sets else None)
        self._transport.send(Call("DELETE", at("datasets", _id(dataset)), body))

    def _upload(
        self,
        path: str,
        source: str | PathLike[str],
        packed: Packed,
        texts: dict[str, str | None],
        progress: ProgressOption,
    ) -> Dataset:
        packing = archive(absolute(source), packed)
        filename, file = _io_sync.blocking(packing.__enter__)
        try:
            with showing(progress) as show:
                body = archive_form(filename, file, texts, self._transport.timeout, show)
                data = self._transport.json(Call("POST", path, body))
        finally:
            packing.__exit__(None, None, None)
        return dataset_of(data)

    def _submit(self, path: str, body: dict[str, Any], key: str | None) -> Job:
        given = {field: value for field, value in body.items() if value is not None}
        data = self._transport.json(submission(path, given, key))
        return Job(self._transport, job_of(data))


def _id(dataset: Dataset | str) -> str:
    return dataset if isinstance(dataset, str) else dataset.id

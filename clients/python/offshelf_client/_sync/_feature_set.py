# Generated from _async by generate_sync.py; edit there.
"""A feature set: what it is, and its rows, which are downloaded when they are asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from offshelf_client import _io_sync
from offshelf_client._feature_files import (
    ITEMS,
    FeatureSetItem,
    Folder,
    arrow_table,
    check_formats,
    check_rows,
    chosen_tap,
    default_folder,
    file_name,
    mapped,
    read_items,
    tensor,
    write_lists,
)
from offshelf_client._progress import ProgressOption, showing
from offshelf_client._sync._downloads import fetch
from offshelf_client._wire import at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import numpy as np
    import pyarrow as pa  # type: ignore[import-untyped]  # it has no type stubs
    import torch
    from numpy.typing import NDArray

    from offshelf_client._feature_files import Format
    from offshelf_client._models import FeatureSetInfo, ItemError, Weights
    from offshelf_client._sync._transport import Transport


class FeatureSet:
    """The features of a dataset under one or more FeatureSpecs, kept by the service.

    `info` is its card. `kept` are the places in the dataset of the images that have rows, in the
    order of the rows; `errors` says by place what was wrong with the others.

    Rows are downloaded when they are asked for, to a folder (of the user's cache unless given),
    with a `manifest.json` beside them, and mapped into memory. What is there already and still
    what the service has is not downloaded again; what broke is gone on with. Example:

        job = client.feature_sets.create(dataset, taps=["fc6", "fc7:pre"])
        feature_set = (job.wait(progress=True)).feature_set()
        X, y = feature_set.numpy("fc6"), feature_set.labels()
    """

    def __init__(
        self,
        transport: Transport,
        info: FeatureSetInfo,
        kept: Sequence[int],
        errors: dict[int, ItemError],
        shard_rows: Sequence[int] = (),
    ) -> None:
        self._transport = transport
        self.info = info
        self.kept = tuple(kept)
        self.errors = errors
        self._shard_rows = tuple(shard_rows)

    def __repr__(self) -> str:
        taps = ", ".join(self.fingerprints)
        return f"<{type(self).__name__} {self.id} {taps}: {len(self.kept)} of {self.total}>"

    @property
    def id(self) -> str:
        """Its identifier."""
        return self.info.id

    @property
    def dataset(self) -> str:
        """The identifier of its dataset."""
        return self.info.dataset

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each tap's FeatureSpec."""
        return self.info.fingerprints

    @property
    def specs(self) -> dict[str, dict[str, Any]]:
        """The FeatureSpec of each tap."""
        return self.info.specs

    @property
    def weights(self) -> Weights:
        """The weights that made it."""
        return self.info.weights

    @property
    def total(self) -> int:
        """The items of its dataset."""
        return self.info.total

    def numpy(
        self,
        tap: str | None = None,
        folder: str | PathLike[str] | None = None,
        *,
        progress: ProgressOption = False,
    ) -> NDArray[np.float32]:
        """The rows of a tap, float32 (N, ...), mapped into memory; it may be left out if only one.

        Row r is of the dataset's item `kept[r]`. Without a good row the shape is (0, 0). Raises
        KeyError, ApiError, TransportError; UnexpectedAnswer where the rows are not those that
        the service's digest is of. Example: `X = feature_set.numpy("fc7")`.
        """
        file = self._file(chosen_tap(self.info, tap), "npy", folder, progress)
        return mapped(file)

    def arrow(
        self,
        tap: str | None = None,
        folder: str | PathLike[str] | None = None,
        *,
        progress: ProgressOption = False,
    ) -> pa.Table:
        """A table of path, label, sha256 and vector, mapped into memory; it needs pyarrow.

        The service needs it as well. Example: `(feature_set.arrow("fc7"))["label"]`.
        """
        file = self._file(chosen_tap(self.info, tap), "arrow", folder, progress)
        return arrow_table(file)

    def torch(
        self,
        tap: str | None = None,
        folder: str | PathLike[str] | None = None,
        *,
        progress: ProgressOption = False,
    ) -> torch.Tensor:
        """The rows of a tap as a tensor over the mapped file; what is changed is not written back.

        Example: `loader = DataLoader(TensorDataset(feature_set.torch("fc7"), y))`.
        """
        file = self._file(chosen_tap(self.info, tap), "npy", folder, progress)
        return tensor(file)

    def items(
        self, folder: str | PathLike[str] | None = None, *, progress: ProgressOption = False
    ) -> list[FeatureSetItem]:
        """All items of the dataset in their order, with their rows and errors.

        Example: `[item.path for item in feature_set.items() if item.error]`.
        """
        return list(read_items(self._items_file(self._folder(folder), progress)))

    def paths(self) -> list[str]:
        """The path in the dataset of every row. Example: `(feature_set.paths())[0]`."""
        return [item.path for item in self.items() if item.row is not None]

    def labels(self) -> list[str]:
        """The label of every row. Example: `y = feature_set.labels()`."""
        return [item.label for item in self.items() if item.row is not None]

    def download(
        self,
        folder: str | PathLike[str],
        formats: Format | Sequence[Format] = ("npy",),
        taps: str | Sequence[str] | None = None,
        *,
        progress: ProgressOption = False,
    ) -> list[Path]:
        """Get files of all taps, or of `taps`, into a folder; the files.

        `formats`: `npy`, `safetensors`, `parquet`, `arrow`. Beside them are `items.csv` (path,
        label, row), `errors.csv`, `items.jsonl`, and `manifest.json` with fingerprints, counts,
        errors and versions. Run again it gets what is missing. Example:
        `feature_set.download("out/", formats=["npy", "parquet"], progress=True)`.
        """
        forms = check_formats(formats)
        named = [taps] if isinstance(taps, str) else list(taps or self.fingerprints)
        chosen = [chosen_tap(self.info, tap) for tap in named]
        target = self._folder(folder)
        with showing(progress) as show:
            found = [self._file(tap, form, folder, show) for form in forms for tap in chosen]
            items = self._items_file(target, show)
            listed = partial(write_lists, target.path, read_items(items))
            failed = _io_sync.blocking(listed)
        target.note_errors(failed)
        return found

    def _folder(self, folder: str | PathLike[str] | None) -> Folder:
        path = default_folder(self.id) if folder is None else Path(folder)
        return Folder(path, self.info)

    def _items_file(self, folder: Folder, progress: ProgressOption) -> Path:
        return self._fetch(folder, ITEMS, ITEMS, progress)

    def _file(
        self, tap: str, form: str, folder: str | PathLike[str] | None, progress: ProgressOption
    ) -> Path:
        target, name = self._folder(folder), file_name(tap, form)
        return self._fetch(target, name, f"{tap}.{form}", progress, tap)

    def _fetch(
        self, folder: Folder, name: str, remote: str, progress: ProgressOption, tap: str = ""
    ) -> Path:
        """The file, from the service unless it is there. The rows of a new array are checked."""
        path = at("feature-sets", self.id, "files", quote(remote, safe=""))
        file, known = folder.path / name, folder.etag(name)
        with showing(progress) as show:
            etag = fetch(self._transport, path, file, known, show)
        if etag != known and name.endswith(".npy"):
            check = partial(check_rows, file, self.info, tap, self._shard_rows)
            _io_sync.blocking(check)
        if etag != known:
            folder.note(name, etag)
        return file

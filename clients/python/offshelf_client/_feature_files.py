"""The folder that a feature set is downloaded to: its files, its lists, its manifest."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from offshelf_client._errors import UnexpectedAnswer, understood
from offshelf_client._models import ItemError, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa  # type: ignore[import-untyped]  # it has no type stubs
    import torch
    from numpy.typing import NDArray

    from offshelf_client._models import FeatureSetInfo

Format: TypeAlias = Literal["npy", "safetensors", "parquet", "arrow"]
FORMATS: Final[tuple[Format, ...]] = ("npy", "safetensors", "parquet", "arrow")
ITEMS: Final = "items.jsonl"
LEFT_OUT: Final = "left_out"  # the code of a file that is in no dataset, beside those of errors
MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class FeatureSetItem:
    """An item of the dataset that a feature set is of: the row that it has, or its error."""

    index: int
    path: str
    label: str
    sha256: str
    row: int | None = None
    error: ItemError | None = None


def default_folder(feature_set_id: str) -> Path:
    """Where a feature set is kept when nobody says where: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "offshelf" / "feature-sets" / feature_set_id


def file_name(tap: str, form: str) -> str:
    """The name of a tap's file; Windows has no `:` in names."""
    return f"{tap.replace(':', '@') if os.name == 'nt' else tap}.{form}"


def chosen_tap(info: FeatureSetInfo, tap: str | None) -> str:
    """The tap of that name, or the only one. KeyError, ValueError."""
    if tap is None and len(info.fingerprints) == 1:
        return next(iter(info.fingerprints))
    names = ", ".join(info.fingerprints)
    if tap is None:
        raise ValueError(f"feature set {info.id} has several taps; name one of {names}")
    if tap not in info.fingerprints:
        raise KeyError(f"feature set {info.id} has no tap {tap!r}; it has {names}")
    return tap


def check_formats(formats: str | Sequence[str]) -> list[str]:
    """The formats, or ValueError with those that there are."""
    given = [formats] if isinstance(formats, str) else list(formats)
    for form in given:
        if form not in FORMATS:
            raise ValueError(f"there is no format {form!r}; there are {', '.join(FORMATS)}")
    return given


class Folder:
    """A folder with the files of one feature set. `manifest.json` says what they are.

    `etags` are those of the whole files that are there; a file that was changed has none.
    """

    def __init__(self, path: Path, info: FeatureSetInfo) -> None:
        self.path = path
        self._info = info

    def etag(self, name: str) -> str | None:
        """The ETag of a file, if it is there as it came."""
        noted, file = self._noted().get("files", {}).get(name), self.path / name
        if not noted or not file.is_file() or file.stat().st_size != noted.get("bytes"):
            return None
        return str(noted["etag"])

    def note(self, name: str, etag: str) -> None:
        """Write the manifest with a file that came."""
        size = (self.path / name).stat().st_size
        files = {**self._noted().get("files", {}), name: {"etag": etag, "bytes": size}}
        self._write(files=files)

    def note_errors(self, failed: Sequence[FeatureSetItem]) -> None:
        """Write the manifest with the items that failed."""
        self._write(errors=[_error(item) for item in failed])

    def _noted(self) -> dict[str, Any]:
        """What the manifest says, if it is this feature set's."""
        try:
            noted = json.loads((self.path / MANIFEST).read_text())
        except (OSError, ValueError):
            return {}
        mine = isinstance(noted, dict) and noted.get("id") == self._info.id
        return noted if mine else {}

    def _write(self, **changed: Any) -> None:
        old = self._noted()
        kept = {"errors": old.get("errors", []), "files": old.get("files", {})}
        told = {**asdict(self._info), **kept, **changed}
        _replace(self.path / MANIFEST, json.dumps(told, indent=2) + "\n")


def note_left_out(folder: Path, skipped: Iterable[Sequence[str]], total: int) -> None:
    """Add the files that are not in the dataset to `errors.csv` and `manifest.json`.

    `skipped` are the path and the reason of those that are known by name, of `total`. In the
    manifest they are `left_out`, and `left_out_total`. Done again it changes nothing.
    """
    told = json.loads((folder / MANIFEST).read_text())
    failed = [one for one in _rows_of(folder / "errors.csv") if one[2] != LEFT_OUT]
    left_out = [(path, "", LEFT_OUT, reason) for path, reason in skipped]
    _write_errors(folder, [*failed, *left_out])
    named = [{"path": path, "reason": reason} for path, _, _, reason in left_out]
    told |= {LEFT_OUT: named, f"{LEFT_OUT}_total": total}
    _replace(folder / MANIFEST, json.dumps(told, indent=2) + "\n")


def _rows_of(file: Path) -> list[tuple[str, ...]]:
    with file.open(newline="") as lines:
        return [tuple(row) for row in csv.reader(lines)][1:]


def _write_errors(folder: Path, rows: Iterable[Sequence[str]]) -> None:
    part = folder / "errors.csv.part"
    with part.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(("path", "label", "code", "message"))
        table.writerows(rows)
    part.replace(folder / "errors.csv")


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    part.write_text(text)
    part.replace(file)


def read_items(file: Path) -> Iterator[FeatureSetItem]:
    """The items of a downloaded `items.jsonl`."""
    with file.open("rb") as lines:
        for line in lines:
            with understood("an item of the feature set"):
                data = json.loads(line)
                error = data.get("error")
                known = None if error is None else read(ItemError, error)
                yield read(FeatureSetItem, data, error=known)


def write_lists(folder: Path, items: Iterable[FeatureSetItem]) -> list[FeatureSetItem]:
    """Write `items.csv` (path, label, row) and `errors.csv`; the items that failed."""
    failed: list[FeatureSetItem] = []
    part = folder / "items.csv.part"
    with part.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(("path", "label", "row"))
        for item in items:
            table.writerow((item.path, item.label, "" if item.row is None else item.row))
            if item.error is not None:
                failed.append(item)
    part.replace(folder / "items.csv")
    rows = [(one.path, one.label, one.error.code, one.error.message) for one in failed if one.error]
    _write_errors(folder, rows)
    return failed


def mapped(file: Path, mode: Literal["r", "c"] = "r") -> NDArray[np.float32]:
    """The array of a .npy file, mapped into memory; one without numbers is read."""
    with understood(str(file)):
        found: NDArray[np.float32] = np.load(file, mmap_mode=mode, allow_pickle=False)
        if found.dtype != np.dtype("<f4"):
            raise ValueError(f"it has {found.dtype}, not float32")
        return found


def tensor(file: Path) -> torch.Tensor:
    """The array of a .npy file as a tensor over private pages of it."""
    import torch

    return torch.from_numpy(mapped(file, "c"))


def arrow_table(file: Path) -> pa.Table:
    """The table of an Arrow file, over its mapped pages."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def check_rows(file: Path, info: FeatureSetInfo, tap: str, shard_rows: Sequence[int]) -> None:
    """Hold a .npy file against the digest of the feature set; if it differs it is removed.

    Raises UnexpectedAnswer then.

    The digest is a sha256 over those of the shards' rows: see docs/extract.md.
    """
    told = info.taps.get(tap)
    if told is None or not shard_rows:
        return
    if _digest(mapped(file), shard_rows, told.row_shape) != told.digest:
        file.unlink()
        raise UnexpectedAnswer(f"{file} is not what the service has under tap {tap}; get it again")


def _digest(
    rows: NDArray[np.float32], shard_rows: Sequence[int], row_shape: tuple[int, ...]
) -> str | None:
    if rows.shape != (sum(shard_rows), *row_shape):
        return None
    digest, start = hashlib.sha256(), 0
    for count in shard_rows:
        one = hashlib.sha256(np.ascontiguousarray(rows[start : start + count]).data).hexdigest()
        digest.update(f"{len(one)}:{one};".encode())
        start += count
    return digest.hexdigest()


def _error(item: FeatureSetItem) -> dict[str, Any]:
    told = asdict(item.error) if item.error else {}
    return {"index": item.index, "path": item.path, **told}

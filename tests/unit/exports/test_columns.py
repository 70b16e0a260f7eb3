"""Parquet and Arrow files, read back by pyarrow."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offshelf.errors import DependencyError
from offshelf.exports.columns import ColumnsExport
from tests.unit.exports.making import Made, made
from tests.unit.worker.fakes import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def export(one: Made, tap: str, kind: str) -> ColumnsExport:
    return ColumnsExport(one.store, one.table, one.card, tap, kind)


def written(one: Made, tap: str, kind: str, folder: Path) -> tuple[Path, list[int]]:
    """The file as it comes from the store, and what was told while it was written."""
    told: list[int] = []
    asked = export(one, tap, kind)
    assert asked.find() is None
    asked.write(folder / "scratch", told.append)
    file = asked.find()
    assert file is not None
    (folder / "file").write_bytes(b"".join(file.read()))
    return folder / "file", told


def table_of(file: Path, kind: str) -> Any:
    if kind == "parquet":
        return pq.read_table(file)
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("tap", ["fc7", "conv5:pre"])
def test_columns_are_those_of_the_good_items(tap: str, kind: str, tmp_path: Path) -> None:
    one = made(MemoryStore())
    file, told = written(one, tap, kind, tmp_path)
    table = table_of(file, kind)
    items = [one.dataset.items[n] for n in one.manifest.kept]
    assert table["path"].to_pylist() == [item.path for item in items]
    assert table["label"].to_pylist() == [item.label for item in items]
    assert table["sha256"].to_pylist() == [item.sha256 for item in items]
    flat = one.rows[tap].reshape(len(items), -1)
    assert table.schema.field("vector").type.list_size == flat.shape[1]
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), flat)
    about = json.loads(table.schema.metadata[b"offshelf"])
    assert about["fingerprint"] == one.manifest.fingerprints[tap]
    assert about["row_shape"] == list(one.rows[tap].shape[1:])
    assert told == [3, 7, 8]
    groups = pq.ParquetFile(file).num_row_groups if kind == "parquet" else 3
    assert groups == 3


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_set_without_a_good_row_is_a_table_without_rows(kind: str, tmp_path: Path) -> None:
    file, told = written(made(MemoryStore(), bad=range(10)), "fc7", kind, tmp_path)
    table = table_of(file, kind)
    assert (table.num_rows, told) == (0, [])
    assert table.schema.names == ["path", "label", "sha256", "vector"]


def test_the_same_file_is_written_once(tmp_path: Path) -> None:
    one = made(MemoryStore())
    first, _ = written(one, "fc7", "parquet", tmp_path)
    before = first.read_bytes()
    export(one, "fc7", "parquet").write(tmp_path / "again", lambda _: None)
    assert before == (tmp_path / "again").read_bytes()
    assert export(one, "fc7", "parquet").key != export(one, "fc7", "arrow").key


def test_without_pyarrow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"pip install 'offshelf\[arrow\]'") as caught:
        export(made(MemoryStore()), "fc7", "parquet").check()
    assert "pip install" in caught.value.public_message

"""Files of arrays, read by the libraries that they are for."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from offshelf.exports import arrays
from tests.unit.exports.making import Made, made
from tests.unit.worker.fakes import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.exports.virtual import VirtualFile


def whole(file: VirtualFile) -> bytes:
    data = b"".join(file.read())
    assert len(data) == file.size
    return data


@pytest.fixture(params=["usual", "regions", "no good row", "one shard"])
def one(request: pytest.FixtureRequest) -> Made:
    return {
        "usual": lambda: made(MemoryStore()),
        "regions": lambda: made(MemoryStore(), shapes={"fc7": (3, 5)}),
        "no good row": lambda: made(MemoryStore(), bad=range(10)),
        "one shard": lambda: made(MemoryStore(), 3, bad=()),
    }[request.param]()


def test_npy_is_what_numpy_maps(one: Made, tmp_path: Path) -> None:
    for tap, rows in one.rows.items():
        file = tmp_path / "rows.npy"
        file.write_bytes(whole(arrays.npy(one.store, one.table, tap)))
        found = np.load(file, mmap_mode="r" if rows.size else None)
        assert found.dtype == np.dtype("<f4")
        np.testing.assert_array_equal(found, rows if len(rows) else np.zeros((0, 0), np.float32))


def test_npy_is_byte_for_byte_what_numpy_writes() -> None:
    one, out = made(MemoryStore()), io.BytesIO()
    np.save(out, one.rows["conv5:pre"])
    assert whole(arrays.npy(one.store, one.table, "conv5:pre")) == out.getvalue()


def test_safetensors_has_rows_items_and_labels(one: Made, tmp_path: Path) -> None:
    for tap, rows in one.rows.items():
        data = whole(arrays.safetensors(one.store, one.table, tap, one.card))
        found = safetensors.numpy.load(data)
        np.testing.assert_array_equal(
            found["rows"], rows if len(rows) else np.zeros((0, 0), np.float32)
        )
        assert found["kept"].tolist() == one.manifest.kept
        named = [one.dataset.classes[label] for label in found["labels"]]
        assert named == [one.dataset.items[n].label for n in one.manifest.kept]
        (tmp_path / "f").write_bytes(data)
        with safetensors.safe_open(tmp_path / "f", "numpy") as opened:
            told = opened.metadata()
        assert told["fingerprint"] == one.manifest.fingerprints[tap]
        assert json.loads(told["spec"]) == one.manifest.specs[tap]


def test_an_etag_is_of_the_bytes() -> None:
    def tag(**how: int) -> str:
        one = made(MemoryStore(), **how)  # type: ignore[arg-type]
        return arrays.npy(one.store, one.table, "fc7").etag

    assert tag() == tag()
    assert tag() != tag(seed=1)
    one = made(MemoryStore())
    files = [arrays.npy(one.store, one.table, tap) for tap in one.rows]
    files += [arrays.safetensors(one.store, one.table, tap, one.card) for tap in one.rows]
    assert len({file.etag for file in files}) == 4


def test_items_are_lines_of_json(one: Made) -> None:
    lines = whole(arrays.items(one.store, one.table, one.card)).splitlines()
    told = [json.loads(line) for line in lines]
    assert [item["path"] for item in told] == [item.path for item in one.dataset.items]
    assert [item["index"] for item in told if "row" in item] == one.manifest.kept

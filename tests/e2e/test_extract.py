"""`offshelf extract` from the shell: by a service, without one, and killed on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from tests.e2e.pictures import write_digits
from tests.serving import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf_client import Client
    from tests.serving import Service

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

TAPS = ("fc6", "fc7:pre", "conv5")
NAMED = [argument for tap in TAPS for argument in ("--tap", tap)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Thirty pictures of three classes, and one file that is none."""
    folder = tmp_path / "photos"
    write_digits(folder, per_class=10, classes=3)
    (next(folder.iterdir()) / "0broken.png").write_bytes(b"no image")
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "offshelf.cli", "extract", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OFFSHELF_")}
    return {**kept, "OFFSHELF_OFFLINE": "true", "OFFSHELF_SHARD_IMAGES": "4", **more}


def extracted(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, check=False
    )


def items_of(out: Path) -> list[dict[str, str]]:
    with (out / "items.csv").open() as lines:
        return list(csv.DictReader(lines))


def manifest_of(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return told


def assert_close(ours: Path, theirs: Path) -> None:
    """Each row within 1e-5 of its norm: other batches may have been made."""
    one, other = np.load(ours), np.load(theirs)
    assert one.shape == other.shape
    apart = np.linalg.norm((one - other).reshape(len(one), -1), axis=1)
    assert np.all(apart <= 1e-5 * np.linalg.norm(other.reshape(len(one), -1), axis=1))


def test_it_gives_the_features_of_the_interactive_endpoint(
    service: Service, client: Client, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    forms = ["--format", "npy", "--format", "parquet", "--format", "safetensors"]
    done = extracted(photos, "-o", out, *NAMED, *forms, "--url", service.url)
    assert done.returncode == 0, done.stderr
    items = items_of(out)
    good = [photos / item["path"] for item in items if item["row"]]
    assert (len(items), len(good)) == (30, 30)
    direct = client.features(good, taps=TAPS)
    for tap in TAPS:
        rows = np.load(out / f"{tap}.npy", mmap_mode="r")
        norms = np.linalg.norm(direct[tap].reshape(30, -1), axis=1)
        apart = np.linalg.norm((rows - direct[tap]).reshape(30, -1), axis=1)
        assert np.all(apart <= 1e-5 * norms)
        assert manifest_of(out)["fingerprints"][tap] == direct.fingerprints[tap]
        table = pq.read_table(out / f"{tap}.parquet")
        vectors = np.array(table["vector"].to_pylist(), np.float32)
        np.testing.assert_array_equal(vectors, rows.reshape(30, -1))
        tensors = safetensors.numpy.load_file(out / f"{tap}.safetensors")
        np.testing.assert_array_equal(tensors["rows"], rows)
        whole = httpx.get(
            f"{service.url}/v1/feature-sets/{manifest_of(out)['id']}/files/{tap}.npy"
        ).content
        assert whole == (out / f"{tap}.npy").read_bytes()
    with (out / "errors.csv").open() as lines:
        (error,) = list(csv.DictReader(lines))
    assert (error["path"].endswith("0broken.png"), error["code"]) == (True, "left_out")
    assert "1 files were left out" in done.stderr


def test_without_a_service_it_gives_the_same(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    served, local = tmp_path / "served", tmp_path / "local"
    assert extracted(photos, "-o", served, *NAMED, "--url", service.url).returncode == 0
    done = extracted(photos, "-o", local, *NAMED, "--local", "--url", "http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert items_of(local) == items_of(served)
    assert (local / "errors.csv").read_text() == (served / "errors.csv").read_text()
    assert manifest_of(local)["fingerprints"] == manifest_of(served)["fingerprints"]
    for key in ("errors", "left_out_total"):
        assert manifest_of(local)[key] == manifest_of(served)[key]
    for tap in TAPS:
        assert_close(local / f"{tap}.npy", served / f"{tap}.npy")


def test_a_local_run_that_was_killed_goes_on(photos: Path, tmp_path: Path) -> None:
    write_digits(photos, per_class=60, classes=3)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert extracted(photos, "-o", whole, *NAMED, "--local").returncode == 0
    # One image after another, so that there is a while to kill it in.
    slow = environment(OFFSHELF_MAX_BATCH="1", OFFSHELF_DECODE_THREADS="1")
    process = subprocess.Popen(command(photos, "-o", out, *NAMED, "--local"), env=slow)
    features = out / ".offshelf" / "store" / "features"

    def shards() -> list[Path]:
        return sorted(features.rglob("*.safetensors"))

    eventually(lambda: len(shards()) >= 3 * len(TAPS), "some shards are done", 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    written = {shard: shard.stat().st_mtime_ns for shard in shards()}
    done = extracted(photos, "-o", out, *NAMED, "--local")
    assert done.returncode == 0, done.stderr
    assert {shard: shard.stat().st_mtime_ns for shard in written} == written
    assert items_of(out) == items_of(whole)
    for tap in TAPS:
        assert_close(out / f"{tap}.npy", whole / f"{tap}.npy")

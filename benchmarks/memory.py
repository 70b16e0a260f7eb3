"""What memory bulk work takes: a worker at 70,000 images, and the API under a large upload.

The figure is the most resident memory that the process ever had (VmHWM of /proc/<pid>/status), so
nothing that was there for a moment only is missed. The images are those of 64 pixels in
`data/tiny-imagenet-200` of OFFSHELF_TEST_DATA, written out as files. The archive of 1 GB holds
files of random bytes named as images: an upload does not decode, and nothing compresses them.
It takes minutes, so `python -m benchmarks` runs it only by name; `python -m benchmarks.memory 5000`
takes fewer images.
"""

from __future__ import annotations

import io
import os
import random
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as parquet

from benchmarks.rows import Row
from offshelf_client import Client, Timeout
from tests.serving import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf_client import Dataset

SMALL: Final = 1_000
LARGE: Final = 70_000
BACKBONE: Final = "embednet"
TAP: Final = "fc6"
MB: Final = 1 << 20
ARCHIVE_FILES: Final = 512
ARCHIVE_FILE_BYTES: Final = 2 * MB  # 1 GB in all
PATIENCE_S: Final = 3_600.0


def run(images: int = LARGE) -> list[Row]:
    """Start a service for each of the two, measure, stop it."""
    return [*extraction(images), *upload()]


def extraction(images: int) -> Iterator[Row]:
    """A feature set of 1,000 images, then one of all, by one worker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "all", images)
        write_images(folder / "few", SMALL)
        with Service(folder / "data") as service, connected(service) as client:
            extract(client, folder / "few")
            worker, api = service.pid_of("worker"), service.pid_of("api")
            at_small = peak(worker)
            api_before = peak(api)
            seconds = extract(client, folder / "all")
            assert service.pid_of("worker") == worker, "the worker died on the way"
            grown = peak(worker) - at_small
            yield megabytes(f"worker, {SMALL} images, peak RSS (baseline)", at_small)
            yield megabytes(f"worker, {images} images, more than at {SMALL}", grown)
            yield megabytes(
                f"API, dataset of {images} images, more than before", peak(api) - api_before
            )
            rate = images / seconds
            yield Row(f"{BACKBONE} {TAP}, {images} images, bulk", rate, f"{rate:.0f} img/s")


def upload() -> Iterator[Row]:
    """An archive of 1 GB through the API, as the SDK sends it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = write_archive(folder / "large.tar")
        with Service(folder / "data") as service, connected(service) as client:
            api = service.pid_of("api")
            before = peak(api)
            began_s = time.monotonic()
            dataset = client.datasets.upload(archive, name="large")
            seconds = time.monotonic() - began_s
            assert dataset.total == ARCHIVE_FILES
            assert service.pid_of("api") == api, "the API died on the way"
            size = archive.stat().st_size
            yield megabytes("API, idle, peak RSS (baseline)", before)
            yield megabytes(
                f"API, upload of {size / 1e9:.2f} GB, more than idle", peak(api) - before
            )
            yield Row("upload", size / MB / seconds, f"{size / MB / seconds:.0f} MB/s")


def connected(service: Service) -> Client:
    return Client(service.url, timeout=Timeout(PATIENCE_S))


def extract(client: Client, images: Path) -> float:
    """Upload a folder and extract its features; the seconds of the job."""
    dataset: Dataset = client.datasets.upload(images, name=images.name)
    began_s = time.monotonic()
    job = client.feature_sets.create(dataset, backbone=BACKBONE, taps=TAP)
    status = job.wait(timeout=PATIENCE_S).status
    assert (status.done, status.failed) == (dataset.total, 0), status
    return time.monotonic() - began_s


def peak(pid: int) -> int:
    """The most resident memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024


def write_images(folder: Path, count: int) -> None:
    """The first so many of tiny-imagenet's training images, in class folders."""
    shared = os.environ.get("OFFSHELF_TEST_DATA") or Path(__file__).parents[2] / "shared"
    root = Path(shared) / "data" / "tiny-imagenet-200"
    table = parquet.ParquetFile(root / "train.parquet")
    written = 0
    for batch in table.iter_batches(1_000):
        labels, images = batch["label"].to_pylist(), batch["image"].to_pylist()
        for label, image in zip(labels, images, strict=True):
            if written == count:
                return
            path = folder / f"{label:03d}" / f"{written:05d}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image if isinstance(image, bytes) else image["bytes"])
            written += 1
    assert written == count, f"{root} has {written} images only, not {count}"


def write_archive(path: Path) -> Path:
    """A tar of 1 GB; the same bytes every time."""
    source = random.Random(0)
    with tarfile.open(path, "w") as archive:
        for number in range(ARCHIVE_FILES):
            member = tarfile.TarInfo(f"{number % 4}/{number:04d}.jpg")
            member.size = ARCHIVE_FILE_BYTES
            archive.addfile(member, io.BytesIO(source.randbytes(ARCHIVE_FILE_BYTES)))
    return path


def megabytes(what: str, size: float) -> Row:
    return Row(what, size / MB, f"{size / MB:.0f} MB")


if __name__ == "__main__":
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else LARGE):
        print(f"{row.what}: {row.figure}", flush=True)

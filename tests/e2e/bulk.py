"""Bulk extraction under test: a folder with broken files, a job on it, and what came of it."""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf_client import Client, Timeout
from tests.e2e.bad_images import BAD_IMAGES, GOOD_IMAGES
from tests.e2e.pictures import varied

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from offshelf_client import Dataset, FeatureSet, Job
    from tests.serving import Service

CLASSES: Final = 5
GOOD: Final = 240
# A dataset leaves out what is over the limit by its bytes alone.
BROKEN: Final = {name: case for name, case in BAD_IMAGES.items() if name != "too many bytes"}
SUFFIXES: Final = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff")
# Ten inputs an image: a job takes long enough to be hurt.
PARAMS: Final = {"backbone": "embednet", "taps": ["conv5", "fc6:pre", "logits"], "view": "ten_crop"}
SHARD: Final = 8
# Recovery is quick, and counts come soon.
SETTINGS: Final = {
    "shard_images": SHARD,
    "heartbeat_timeout_s": 3,
    "maintenance_chance": 1_000_000,
    "worker_beat_s": 0.2,
}
JOB_S: Final = 400.0
SAME: Final = 1e-5
# What is downloaded but the manifest, which tells when it was made.
KINDS: Final = (".npy", ".safetensors", ".csv", ".jsonl")


def write_mixed(folder: Path, good: int = GOOD) -> Path:
    """Photographs of all sizes in class folders, and among them every kind of odd and broken file.

    Names do not tell the kind: the suffix of a broken file is any.
    """
    images = {f"photo-{number:04d}.jpg": image for number, image in enumerate(varied(good))}
    images |= {f"odd-{number:02d}.png": image for number, image in enumerate(GOOD_IMAGES.values())}
    images |= broken_files(1)
    for number, (name, image) in enumerate(images.items()):
        path = folder / f"class-{number % CLASSES}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    return folder


def broken_files(of_each: int) -> dict[str, bytes]:
    """Broken files by name, `of_each` of every kind, no two with the same bytes but the empty."""
    return {
        f"{kind.replace(' ', '-')}-{copy}{SUFFIXES[number % len(SUFFIXES)]}": image
        + b"\0" * (copy if image else 0)
        for number, (kind, (image, _, _)) in enumerate(BROKEN.items())
        for copy in range(of_each)
    }


@dataclass(frozen=True)
class Extracted:
    """All that a finished feature set says, in the order of the dataset's items."""

    paths: list[str]
    labels: list[str]
    kept: list[int]
    errors: dict[int, tuple[str, str]]
    fingerprints: dict[str, str]
    rows: dict[str, np.ndarray]
    files: dict[str, bytes] = field(repr=False)

    def assert_same(self, other: Extracted) -> None:
        """Rows, order, errors and labels are the other's; each row is within 1e-5 of its norm."""
        assert (self.paths, self.labels) == (other.paths, other.labels)
        assert self.kept == other.kept
        assert self.errors == other.errors
        assert self.fingerprints == other.fingerprints
        for tap, wanted in other.rows.items():
            rows = self.rows[tap]
            assert rows.shape == wanted.shape
            off = np.linalg.norm(rows - wanted, axis=1)
            assert (off <= SAME * np.linalg.norm(wanted, axis=1)).all(), (tap, off.max())

    def assert_identical(self, other: Extracted) -> None:
        """The other's byte for byte, in every file."""
        self.assert_same(other)
        assert self.files.keys() == other.files.keys()
        differ = [name for name, data in self.files.items() if data != other.files[name]]
        assert not differ


def extracted(feature_set: FeatureSet, folder: Path) -> Extracted:
    """Download a feature set and read its files."""
    feature_set.download(folder, formats=["npy", "safetensors"])
    items = feature_set.items(folder)
    taps = feature_set.fingerprints
    rows = {tap: np.array(feature_set.numpy(tap, folder)) for tap in taps}
    kept = [item.index for item in items if item.row is not None]
    assert list(feature_set.kept) == kept
    return Extracted(
        paths=[item.path for item in items],
        labels=[item.label for item in items],
        kept=kept,
        errors={item.index: (item.error.code, item.error.message) for item in items if item.error},
        fingerprints=dict(taps),
        rows={tap: values.reshape(len(kept), -1) for tap, values in rows.items()},
        files={file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in KINDS},
    )


@dataclass
class Extraction:
    """A dataset in a service of its own, and jobs on it."""

    service: Service
    client: Client
    dataset: Dataset
    params: Mapping[str, Any]

    def start(self, *, deterministic: bool = False) -> Job:
        """Submit the job; again and again if need be."""
        return self.client.feature_sets.create(
            self.dataset, deterministic=deterministic, **self.params
        )

    def finish(self, job: Job, within_s: float = JOB_S) -> Extracted:
        """Wait for the end, check its counts, and read what it made."""
        status = job.wait(timeout=within_s).status
        assert status.done + status.failed == status.total == self.dataset.total, status
        feature_set = self.client.feature_sets.get(job.result["feature_set"])
        return extracted(feature_set, self.service.data_dir / "downloads" / job.id)


@contextmanager
def uploaded(
    service: Service, folder: Path, params: Mapping[str, Any] = PARAMS
) -> Iterator[Extraction]:
    """A folder uploaded to a service, and a client for as long as the block runs."""
    with Client(service.url, timeout=Timeout(60)) as client:
        dataset = client.datasets.upload(folder, name="mixed")
        yield Extraction(service, client, dataset, params)


def reach(job: Job, images: int) -> None:
    """Follow the job's events until so many of its images are done; it must not have ended."""
    for event in job.events():
        assert not event.terminal, f"the job ended before {images} images: {event.data}"
        if event.data.get("done", 0) + event.data.get("failed", 0) >= images:
            return


def items_by_worker(service: Service) -> Counter[str]:
    """How many images of jobs every live worker has worked on, by its id; rows found count not."""
    counts: Counter[str] = Counter()
    for sample in service.samples():
        if sample.name == "offshelf_job_items_total" and sample.labels["outcome"] != "reused":
            counts[sample.labels["worker"]] += int(sample.value)
    return counts


def seeded(round_: int) -> random.Random:
    """The random numbers of a round; OFFSHELF_FAULT_SEED gives other ones. Printed on failure."""
    seed = 1000 * int(os.environ.get("OFFSHELF_FAULT_SEED", "0")) + round_
    print(f"round {round_}: seed {seed}")
    return random.Random(seed)

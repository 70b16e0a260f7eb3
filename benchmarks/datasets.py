"""What datasets cost in memory: the API under a 1 GB upload, and a dataset of a million images.

The figure is the most resident memory that a process ever had (VmHWM of /proc/<pid>/status), and
for a part of the work that of a process which does nothing else, less what it had before. The
archive holds files of random bytes behind the header of an image, as an upload looks no further.
It takes minutes, so `python -m benchmarks` leaves it out: `python -m benchmarks.datasets`, or
`python -m benchmarks.datasets 100000` for fewer items.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import random
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from PIL import Image

from benchmarks.rows import Row
from offshelf.datasets import records
from offshelf.datasets.importing import Wanted
from offshelf.datasets.staging import Staging
from offshelf.schemas.datasets import DatasetItem
from offshelf.store.objects import ObjectStore
from tests.serving import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MILLION: Final = 1_000_000
CLASSES: Final = 1_000
SHARD_IMAGES: Final = 64
MB: Final = 1 << 20
ARCHIVE_FILES: Final = 10_000
ARCHIVE_FILE_BYTES: Final = 107_374  # 1 GiB in all
SHOWS: Final = 20


def run(items: int = MILLION) -> list[Row]:
    """Upload, then write and read a dataset of so many items."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*upload(folder), *many(folder, items)]


def upload(folder: Path) -> Iterator[Row]:
    """The API's peak over what it had, while 1 GiB comes in as a body and as a form."""
    archive = folder / "archive.tar"
    write_archive(archive)
    with Service(folder / "uploads") as service:
        api = service.pid_of("api")
        post_body(service, tarred({"a/1.png": header()}))  # what any upload loads
        before = peak(api)
        seconds = timed(lambda: post_body(service, archive))
        yield row("API, 1 GiB tar as the body: peak over before", (peak(api) - before) / MB, "MB")
        yield row("the same, seconds", seconds, "s")
        post_form(service, archive)
        yield row("API, the same as a form: peak over before", (peak(api) - before) / MB, "MB")


def many(folder: Path, items: int) -> Iterator[Row]:
    """A dataset of many items: writing it, showing it, one shard's items, all of its labels."""
    data = folder / "many"
    store = (data / "store").as_uri()
    dataset_id, seconds, grown = alone(write, store, items)
    yield row(f"{items:,} items sorted and written: peak", grown / MB, "MB")
    yield row("the same, seconds", seconds, "s")
    stored = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
    yield row("the same, in the store", stored / items, "bytes an item")
    with Service(data) as service:
        api = service.pid_of("api")
        before = peak(api)
        with httpx.Client(base_url=service.url) as client:
            for what, path in (("show", f"/v1/datasets/{dataset_id}"), ("list", "/v1/datasets")):
                seconds = timed(lambda path=path: [client.get(path) for _ in range(SHOWS)])
                yield row(f"{what} it", 1000 * seconds / SHOWS, "ms")
        yield row("API, list and show: peak over before", (peak(api) - before) / MB, "MB")
    for what, part in (("one shard's items", read_shard), ("all labels and paths", read_labels)):
        _, seconds, grown = alone(part, store, dataset_id)
        yield row(f"{what}: peak", grown / MB, "MB")
        yield row("the same, seconds", seconds, "s")


def write(store: str, items: int) -> str:
    """Stage items in no order, as a folder is walked, and commit them."""
    numbers = list(range(items))
    random.Random(0).shuffle(numbers)
    with Staging() as staging:
        for number in numbers:
            staging.add(item(number))
        counts = staging.counts()
        head = Wanted("default", "many", 0.0).head(
            id=staging.dataset_id(),
            classes=list(counts),
            counts=counts,
            total=items,
            bytes=staging.bytes(),
        )
        return records.add(ObjectStore.open(store), head, staging)[0].id


def item(number: int) -> DatasetItem:
    """A row as ImageNet's are."""
    label = f"n{number % CLASSES:08d}"
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return DatasetItem(f"{label}/{label}_{number}.JPEG", label, digest, 100_000 + number % 9973)


def read_shard(store: str, dataset_id: str) -> None:
    """What the step of a shard reads of the manifest."""
    items = records.load(ObjectStore.open(store), "default", dataset_id).items
    first = len(items) // 2
    assert len(items[first : first + SHARD_IMAGES]) == SHARD_IMAGES


def read_labels(store: str, dataset_id: str) -> None:
    """What the split of a head reads."""
    dataset = records.load(ObjectStore.open(store), "default", dataset_id)
    assert len(dataset.labels) == len([found.path for found in dataset.items])


def row(what: str, value: float, unit: str) -> Row:
    """A figure of three digits."""
    return Row(what, value, f"{value:.3g} {unit}")


def alone(part: Callable[..., Any], *arguments: Any) -> tuple[Any, float, int]:
    """What a part gives in a process of its own, its seconds, and by how much its peak grew."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (part, arguments))


def measured(part: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float, int]:
    """`alone`, in the child."""
    ObjectStore.open("memory://").put_new("warm", b"up")
    before = peak("self")
    started_s = time.perf_counter()
    result = part(*arguments)
    return result, time.perf_counter() - started_s, peak("self") - before


def peak(pid: int | str) -> int:
    """The most resident bytes that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(kilobytes)


def timed(action: Callable[[], object]) -> float:
    """Its seconds."""
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


def header() -> bytes:
    """A real, small image."""
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    return out.getvalue()


def write_archive(path: Path) -> None:
    """A tar of images that nothing compresses, in ten classes."""
    noise, start = random.Random(0), header()
    with tarfile.open(path, "w") as tar:
        for number in range(ARCHIVE_FILES):
            info = tarfile.TarInfo(f"c{number % 10}/{number}.png")
            info.size = ARCHIVE_FILE_BYTES
            tar.addfile(info, io.BytesIO(start + noise.randbytes(info.size - len(start))))


def tarred(files: dict[str, bytes]) -> bytes:
    """A small archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def post_body(service: Service, archive: Path | bytes) -> None:
    """Upload an archive as the whole body."""
    content = archive if isinstance(archive, bytes) else archive.open("rb")
    answer = httpx.post(
        f"{service.url}/v1/datasets?name=x",
        content=content,
        headers={"content-type": "application/x-tar"},
        timeout=600,
    )
    assert answer.is_success, answer.text


def post_form(service: Service, archive: Path) -> None:
    """Upload it as a multipart file."""
    with archive.open("rb") as file:
        answer = httpx.post(
            f"{service.url}/v1/datasets", files={"archive": ("x.tar", file)}, timeout=600
        )
    assert answer.is_success, answer.text


if __name__ == "__main__":
    for found in run(int(sys.argv[1]) if len(sys.argv) > 1 else MILLION):
        print(f"| {found.what} | {found.figure} |")

"""Downloads of a feature set against plain serving of the same bytes, and the API's memory.

`python -m benchmarks.downloads [GIB]` makes a feature set of so much (1 unless given), serves it
with `offshelf serve`, and the same bytes as a plain file by Starlette's StaticFiles on uvicorn.
Rates are medians of alternating downloads by curl, which discards them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, Self

import numpy as np
import psutil

from offshelf.exports.commit import Extracted, commit
from offshelf.heads.features import Shard
from offshelf.schemas.base import WeightsBody
from offshelf.schemas.datasets import Dataset, DatasetItem
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from tests.serving import Service, eventually, free_port

WIDTH: Final = 4096
SHARD: Final = 64
ROUNDS: Final = 7
NAME: Final = "features-1"
PLAIN: Final = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
app = Starlette(routes=[Mount("/", StaticFiles(directory=sys.argv[1]))])
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


def make(store: ObjectStore, gib: float) -> None:
    """A feature set of random rows."""
    total = int(gib * (1 << 30)) // (4 * WIDTH)
    items = [
        DatasetItem(path=f"a/{n:07d}.jpg", label="a", sha256=f"{n:064x}", bytes=1)
        for n in range(total)
    ]
    dataset = Dataset(
        id="ds-1", owner="default", name="d", created_s=1.0, classes=["a"], items=items
    )
    random = np.random.default_rng(0)
    for index, first in enumerate(range(0, total, SHARD)):
        kept = np.arange(first, min(first + SHARD, total))
        rows = random.random((len(kept), WIDTH), np.float32)
        store.put_new(layout.shard("ds-1", "f" * 64, index), Shard(rows, kept, {}).pack())
    weights = WeightsBody(source="none", label="none", digest="d", licence="", random=True)
    spec = {"fc7": {"backbone": "none", "tap": "fc7"}}
    prints = {"fc7": "f" * 64}
    made = Extracted(NAME, "default", spec, prints, prints, False, weights, SHARD, {}, 1.0)
    commit(store, made, dataset)


def rate(url: str) -> float:
    """MB/s of a download that nobody keeps."""
    command = ["curl", "-sf", "-o", "/dev/null", "-w", "%{speed_download}", url]
    return float(subprocess.run(command, capture_output=True, check=True).stdout) / 1e6


class Peak:
    """The largest resident size of a process while the block runs, in MB, and that before."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self.before = self.peak = self._process.memory_info().rss / 1e6
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss / 1e6)


def main() -> None:
    """Print the figures."""
    gib = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    with tempfile.TemporaryDirectory() as folder:
        data, plain = Path(folder) / "data", Path(folder) / "plain"
        plain.mkdir()
        make(ObjectStore.open((data / "store").as_uri()), gib)
        with Service(data) as service:
            files = f"{service.url}/v1/feature-sets/{NAME}/files"
            fetch = ["curl", "-sfo", str(plain / "rows.npy"), f"{files}/fc7.npy"]
            subprocess.run(fetch, check=True)
            port = free_port()
            server = subprocess.Popen([sys.executable, "-c", PLAIN, str(plain), str(port)])
            try:
                measure(service, files, f"http://127.0.0.1:{port}/rows.npy")
            finally:
                server.terminate()
                server.wait()


def measure(service: Service, files: str, plain: str) -> None:
    """Alternate between the two; then the memory of a file that has to be written."""
    alive = ["curl", "-sf", "-o", "/dev/null", "-r", "0-0", plain]
    eventually(lambda: subprocess.run(alive, check=False).returncode == 0, "the plain server is up")
    ours, theirs = [], []
    with Peak(service.pid_of("api")) as memory:
        for _ in range(ROUNDS):
            ours.append(rate(f"{files}/fc7.npy"))
            theirs.append(rate(plain))
    medians = statistics.median(ours), statistics.median(theirs)
    print(f"npy from shards {medians[0]:.0f} MB/s, plain file {medians[1]:.0f} MB/s")
    print(f"RSS of the API {memory.before:.0f} MB before, {memory.peak:.0f} MB at most")
    wait = ["curl", "-sf", "--retry", "200", "--retry-delay", "1", "-o", "/dev/null"]
    with Peak(service.pid_of("api")) as memory:
        began_s = time.monotonic()
        subprocess.run([*wait, f"{files}/fc7.parquet"], check=True)
        took_s = time.monotonic() - began_s
    told = f"{memory.before:.0f} MB before, {memory.peak:.0f} MB at most"
    print(f"parquet, written and sent in {took_s:.1f} s: {told}")


if __name__ == "__main__":
    main()

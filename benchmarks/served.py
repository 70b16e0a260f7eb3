"""What serving costs: HTTP in to features out against the bare engine, and how requests coalesce.

The bare engine call is measured in this process between the HTTP calls, in turn, so that a machine
that is slower for a while is slower for both. SqueezeNet 1.0 with seeded weights: the time of a
forward pass does not depend on what was learned.
"""

from __future__ import annotations

import http.client
import io
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.rows import Row
from offshelf.engine.decode import Limits, decode
from offshelf.engine.interface import Output, Resident
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.views import view
from offshelf.settings import Settings
from tests.serving import Service

if TYPE_CHECKING:
    from collections.abc import Callable

BACKBONE: Final = "squeezenet1_0"
WEIGHTS: Final = "random:0"
BLOCKS: Final = 6
BLOCK: Final = 20  # calls
CLIENTS: Final = 64
REQUESTS_A_CLIENT: Final = 12


def run() -> list[Row]:
    """Start a service, measure, stop it."""
    jpeg = photograph()
    settings = Settings()
    resident = TorchEngine(settings).load(BACKBONE, WEIGHTS)
    with (
        tempfile.TemporaryDirectory() as folder,
        Service(Path(folder) / "data", {"cache_bytes": 0}) as service,
    ):
        Caller(service.port, jpeg).ask()  # loads the backbone
        return [*overhead(service, resident, jpeg, settings), *coalescing(service, jpeg)]


def overhead(service: Service, resident: Resident, jpeg: bytes, settings: Settings) -> list[Row]:
    """One client, one image at a time, on an otherwise idle server.

    Blocks of bare calls and of requests take turns, so that both find the caches warm alike.
    """
    pre = resident.card.preprocessing
    limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
    inputs = view(decode(jpeg, limits), "center", pre)
    client = Caller(service.port, jpeg)
    bare, decoding, served = [], [], []
    for _ in range(BLOCKS):
        bare += timed(lambda: resident.forward([inputs], [Output("logits")]))
        decoding += timed(lambda: view(decode(jpeg, limits), "center", pre))
        served += timed(client.ask)
    rest = statistics.median(served) - statistics.median(bare)
    return [
        milliseconds("bare engine, 1 image, p50", bare),
        milliseconds("decode and cut, 1 image, p50", decoding),
        milliseconds("HTTP in to features out, 1 image, idle server, p50", served),
        Row(
            "overhead: HTTP in to out minus bare engine, p50", 1000 * rest, f"{1000 * rest:.2f} ms"
        ),
    ]


def timed(action: Callable[[], object]) -> list[float]:
    """The seconds of each of a block of calls."""
    taken = []
    for _ in range(BLOCK):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return taken


def coalescing(service: Service, jpeg: bytes) -> list[Row]:
    """One client in a loop, then 64 at once, single-image requests."""
    one_rate, one_s = load(service, jpeg, clients=1, each=40)
    before = service.metrics()
    many_rate, many_s = load(service, jpeg, CLIENTS, REQUESTS_A_CLIENT)
    time.sleep(2.5)  # the worker's counts come with its next heartbeat
    after = service.metrics()
    inputs = after["offshelf_batch_size_sum"] - before["offshelf_batch_size_sum"]
    batches = after["offshelf_batch_size_count"] - before["offshelf_batch_size_count"]
    return [
        Row("1 client, images a second (baseline)", one_rate, f"{one_rate:.1f} img/s"),
        Row(f"{CLIENTS} clients, images a second", many_rate, f"{many_rate:.1f} img/s"),
        Row("ratio to 1 client", many_rate / one_rate, f"{many_rate / one_rate:.2f}x"),
        Row(f"{CLIENTS} clients, mean batch", inputs / batches, f"{inputs / batches:.1f}"),
        milliseconds("1 client, latency p50", one_s),
        milliseconds(f"{CLIENTS} clients, latency p50", many_s),
    ]


def load(service: Service, jpeg: bytes, clients: int, each: int) -> tuple[float, list[float]]:
    """Images a second, and the seconds of every request, of so many clients in closed loops."""

    def loop(_: int) -> list[float]:
        caller = Caller(service.port, jpeg)
        taken = []
        for _ in range(each):
            began = time.perf_counter()
            caller.ask()
            taken.append(time.perf_counter() - began)
        return taken

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = [seconds for part in pool.map(loop, range(clients)) for seconds in part]
    return clients * each / (time.perf_counter() - began), taken


class Caller:
    """A client on one kept connection that costs next to nothing: it shares the server's cores."""

    def __init__(self, port: int, jpeg: bytes, backbone: str = BACKBONE) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._jpeg = jpeg
        self._path = f"/v1/features?backbone={backbone}&weights={WEIGHTS}&taps=logits"

    def ask(self) -> None:
        """Post the image and read its logits."""
        headers = {"Content-Type": "image/jpeg", "Accept": "application/x-npy"}
        self._connection.request("POST", self._path, self._jpeg, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        assert np.load(io.BytesIO(body)).shape == (1, 1000)


def milliseconds(what: str, seconds: list[float]) -> Row:
    p50 = 1000 * statistics.median(seconds)
    return Row(what, p50, f"{p50:.2f} ms")


def photograph() -> bytes:
    """A photograph of 500 x 334 pixels as JPEG, the size of a typical ImageNet image."""
    file = io.BytesIO()
    Image.fromarray(load_sample_images().images[0]).resize((500, 334)).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()

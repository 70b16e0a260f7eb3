"""What serving costs: HTTP in to features out against the bare engine, and how requests coalesce.

The bare engine call is measured in this process between the HTTP calls, in turn, so that a machine
that is slower for a while is slower for both. SqueezeNet 1.0 with seeded weights: the time of a
forward pass does not depend on what was learned.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from offshelf.engine.decode import Limits, decode
from offshelf.engine.interface import Output, Resident
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.views import view
from offshelf.settings import Settings
from tests.serving import Service

BACKBONE: Final = "squeezenet1_0"
WEIGHTS: Final = "random:0"
ROUNDS: Final = 100
CLIENTS: Final = 64
REQUESTS_A_CLIENT: Final = 6


@dataclass(frozen=True)
class Row:
    """One figure. `value` in the unit that `figure` says."""

    what: str
    value: float
    figure: str


def run() -> list[Row]:
    """Start a service, measure, stop it."""
    jpeg = photograph()
    settings = Settings()
    resident = TorchEngine(settings).load(BACKBONE, WEIGHTS)
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder) / "data") as service:
        ask(service.url, jpeg)  # loads the backbone
        return [*overhead(service, resident, jpeg, settings), *coalescing(service, jpeg)]


def overhead(service: Service, resident: Resident, jpeg: bytes, settings: Settings) -> list[Row]:
    """One client, one image at a time, on an otherwise idle server."""
    pre = resident.card.preprocessing
    limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
    outputs = [Output("logits")]
    bare, decoding, served = [], [], []
    with httpx.Client(base_url=service.url) as client:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            pixels = view(decode(jpeg, limits), "center", pre)
            decoded = time.perf_counter()
            resident.forward(pixels.reshape(1, pre.crop, pre.crop, 3), outputs)
            ended = time.perf_counter()
            ask_with(client, jpeg)
            answered = time.perf_counter()
            decoding.append(decoded - began)
            bare.append(ended - decoded)
            served.append(answered - ended)
    over = [a - b for a, b in zip(served, bare, strict=True)]
    return [
        milliseconds("bare engine, 1 image, p50", bare),
        milliseconds("decode and cut, 1 image, p50", decoding),
        milliseconds("HTTP in to features out, 1 image, idle server, p50", served),
        milliseconds("overhead: HTTP in to out minus bare engine, p50", over),
    ]


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
        taken = []
        with httpx.Client(base_url=service.url, timeout=120) as client:
            for _ in range(each):
                began = time.perf_counter()
                ask_with(client, jpeg)
                taken.append(time.perf_counter() - began)
        return taken

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = [seconds for part in pool.map(loop, range(clients)) for seconds in part]
    return clients * each / (time.perf_counter() - began), taken


def ask(url: str, jpeg: bytes) -> None:
    with httpx.Client(base_url=url, timeout=120) as client:
        ask_with(client, jpeg)


def ask_with(client: httpx.Client, jpeg: bytes) -> None:
    answer = client.post(
        "/v1/features",
        params={"backbone": BACKBONE, "weights": WEIGHTS, "taps": "logits"},
        content=jpeg,
        headers={"Content-Type": "image/jpeg", "Accept": "application/x-npy"},
    )
    answer.raise_for_status()
    assert np.load(io.BytesIO(answer.content)).shape == (1, 1000)


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

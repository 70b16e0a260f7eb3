"""Requests of many clients share batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.pictures import varied
from tests.serving import eventually

if TYPE_CHECKING:
    from tests.serving import Service

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

CLIENTS, EACH = 64, 6


def test_single_images_of_64_clients_share_batches(service: Service) -> None:
    images = varied(CLIENTS)
    params = {"backbone": "squeezenet1_0", "weights": "random:0", "taps": "logits"}

    def ask(image: bytes, times: int) -> None:
        with httpx.Client(base_url=service.url, timeout=120) as client:
            for _ in range(times):
                answer = client.post(
                    "/v1/features",
                    params=params,
                    content=image,
                    headers={"Content-Type": "image/jpeg", "Accept": "application/x-npy"},
                )
                assert answer.status_code == 200, answer.text

    def counted(before: dict[str, float], name: str) -> float:
        return service.metrics()[name] - before.get(name, 0.0)

    ask(images[0], 1)  # loads the backbone
    before = service.metrics()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda image: ask(image, EACH), images))
    # The worker's counts come with its next heartbeat.
    inputs, images_sent = "offshelf_batch_size_sum", CLIENTS * EACH
    eventually(lambda: counted(before, inputs) >= images_sent, "all images are counted")
    batches = counted(before, "offshelf_batch_size_count")
    assert counted(before, inputs) / batches >= 4

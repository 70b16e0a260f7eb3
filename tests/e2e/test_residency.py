"""Several backbones on one device, and several workers with different weights, for real."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import httpx
import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2, squeezenet1_0

from offshelf_client import Client, JobFailedError, Timeout, WeightsMissingError
from tests.e2e.pictures import varied, write_digits
from tests.serving import Service, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

CLIENTS, EACH = 32, 6
# Either of these two fits, both do not: 5 and 22 MB of weights.
ROOM_FOR_ONE = 24_000_000
NETWORKS = ("embednet", "squeezenet1_0")


def test_32_clients_at_random_on_two_backbones_with_room_for_one(tmp_path: Path) -> None:
    images = varied(CLIENTS)

    def ask(client: Client, network: str, image: bytes) -> np.ndarray:
        features = client.features(image, backbone=network, weights="random:0", taps="logits")
        assert features.backbone == network
        return features["logits"][0]

    def wander(url: str, number: int) -> list[tuple[str, np.ndarray]]:
        choose = np.random.default_rng(number)
        with Client(url, timeout=Timeout(120)) as client:
            names = [NETWORKS[choose.integers(2)] for _ in range(EACH)]
            return [(name, ask(client, name, images[number])) for name in names]

    with Service(tmp_path / "data", {"max_device_bytes": ROOM_FOR_ONE}) as service:
        with Client(service.url) as client:
            right = {
                (name, number): ask(client, name, image)
                for name in NETWORKS
                for number, image in enumerate(images)
            }
        # Counts come with the worker's next heartbeat.
        eventually(lambda: loads(service) >= 2, "both were loaded")
        before = loads(service)
        with ThreadPoolExecutor(CLIENTS) as pool:
            found = list(pool.map(lambda n: wander(service.url, n), range(CLIENTS), timeout=200))
        for number, answers in enumerate(found):
            for name, row in answers:
                wanted = right[name, number]
                assert np.linalg.norm(row - wanted) <= 1e-5 * np.linalg.norm(wanted)
        eventually(lambda: loads(service) > before, "loads are counted")
        assert loads(service) - before <= CLIENTS * EACH
        # A heartbeat later one is there, and the other is not even on its way.
        eventually(lambda: len(resident(service)) == 1, "one backbone is resident")
        assert "Traceback" not in service.log_path.read_text()


def loads(service: Service) -> float:
    """How often a backbone was loaded onto a device."""
    return service.metrics().get("offshelf_load_seconds_count", 0.0)


def resident(service: Service) -> list[str]:
    """The backbones on the devices of all workers, or on their way there."""
    bodies = httpx.get(f"{service.url}/v1/backbones").json()["items"]
    return [body["name"] for body in bodies for _ in body["resident"]]


def test_work_goes_to_the_worker_that_has_the_weights(tmp_path: Path) -> None:
    weights, empty = tmp_path / "weights", tmp_path / "none"
    for folder in (weights, empty):
        folder.mkdir()
    torch.manual_seed(5)
    save_file(squeezenet1_0(num_classes=1000).state_dict(), weights / "squeezenet1_0.safetensors")
    write_digits(tmp_path / "digits", per_class=12, classes=4)
    # Nothing can be downloaded either, so the first worker cannot have them.
    settings = {
        "weights_dir": empty,
        "weights_mirror": "http://127.0.0.1:9",
        "shard_images": 4,
        "worker_beat_s": 0.2,
    }
    os.environ["TORCH_HOME"], kept = str(tmp_path / "hub"), os.environ.get("TORCH_HOME")
    try:
        with Service(tmp_path / "data", settings) as service, Client(service.url) as client:
            with pytest.raises(WeightsMissingError):
                client.features(varied(1)[0], backbone="squeezenet1_0")
            dataset = client.datasets.upload(tmp_path / "digits")
            with pytest.raises(JobFailedError, match="no weights for squeezenet1_0"):
                client.feature_sets.create(dataset, backbone="squeezenet1_0").wait(timeout=60)
            with service.another_worker({"weights_dir": weights}) as pid:
                eventually(lambda: len(client.health()["workers"]) == 2, "both workers are there")
                check_that_all_is_served(client, dataset, pid)
    finally:
        if kept is None:
            del os.environ["TORCH_HOME"]
        else:
            os.environ["TORCH_HOME"] = kept


def check_that_all_is_served(client: Client, dataset: object, pid: int) -> None:
    """Requests and jobs for what only the second worker has; others for both."""
    features = client.features(varied(40), backbone="squeezenet1_0", taps="logits", batch_size=8)
    assert features["logits"].shape == (40, 1000)
    assert features.weights is not None
    assert features.weights.label == "squeezenet1_0.safetensors"
    job = client.feature_sets.create(dataset, backbone="squeezenet1_0").wait(timeout=120)
    assert (job.status.total, job.status.failed) == (48, 0)
    (residence,) = client.backbone("squeezenet1_0").resident
    assert (residence.state, residence.weights) == ("ready", "squeezenet1_0.safetensors")
    assert client.features(varied(3), backbone="embednet")["penultimate"].shape == (3, 1024)
    assert psutil.pid_exists(pid)


def test_what_is_resident_is_shown_though_no_catalogue_lists_it(tmp_path: Path) -> None:
    name = "timm:resnet18"
    with Service(tmp_path / "data") as service, Client(service.url) as client:
        client.features(varied(1)[0], backbone=name, weights="random:0", taps="logits")

        def shown() -> list[dict[str, object]] | None:
            answer = httpx.get(f"{service.url}/v1/backbones/{name}", timeout=10)
            return answer.json()["resident"] if answer.status_code == 200 else None

        (resident,) = eventually(shown, "the loaded backbone is listed", within_s=10)
        assert resident["weights"] == "random:0"
        page = httpx.get(f"{service.url}/v1/backbones", timeout=10).json()
        assert name in [backbone["name"] for backbone in page["items"]]


def test_missing_other_weights_keep_nobody_from_the_own_ones(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    torch.manual_seed(5)
    save_file(mobilenet_v2().state_dict(), weights / "mobilenet_v2.safetensors")
    settings = {
        "weights_dir": weights,
        "offline": "true",
        "worker_beat_s": 0.2,
        "request_deadline_s": 20,  # what is kept waiting fails
    }
    with (
        Service(tmp_path / "data", settings) as service,
        Client(service.url) as client,
        service.another_worker({"weights_dir": weights}),
    ):
        eventually(lambda: len(client.health()["workers"]) == 2, "both workers are there")
        ask = partial(client.features, varied(4), backbone="mobilenet_v2", taps="logits")
        assert ask()["logits"].shape == (4, 1000)
        # Nobody has these: it is told, and not left to somebody else for ever.
        with pytest.raises(WeightsMissingError, match="IMAGENET1K_V2"):
            ask(weights="IMAGENET1K_V2")
        for _ in range(3):
            assert ask()["logits"].shape == (4, 1000)

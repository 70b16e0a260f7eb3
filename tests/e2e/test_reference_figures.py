"""Real weights on real images: the figures that independent scripts gave come out over HTTP.

The figures are those of the test data's README: torchvision's SqueezeNet 1.0 with brought weights.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import squeezenet1_0
from torchvision.transforms import v2

from offshelf_client import Client
from tests.serving import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offshelf_client import Dataset

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def client(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"weights_dir": shared_data / "weights"}
    with (
        Service(tmp_path_factory.mktemp("figures") / "data", settings) as service,
        Client(service.url) as connected,
    ):
        yield connected


def independent_logits(weights: Path, images: list[Path]) -> np.ndarray:
    """The plain torchvision script that a user would write."""
    network = squeezenet1_0()
    network.load_state_dict(load_file(weights))
    network.eval()
    to_input = v2.Compose(
        [
            v2.Resize(256, antialias=True),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    inputs = torch.stack([to_input(Image.open(path).convert("RGB")) for path in images])
    with torch.inference_mode():
        return torch.cat([network(part) for part in inputs.split(10)]).numpy()


def test_imagenet_samples_reach_the_top1_of_an_independent_script(
    client: Client, shared_data: Path
) -> None:
    folder = shared_data / "data" / "imagenet-samples"
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    name, label = list(rows[0])[:2]
    paths = [folder / row[name] for row in rows]
    truth = np.array([int(row[label]) for row in rows])
    served = client.features(paths, backbone="squeezenet1_0", taps="logits")
    assert served.weights is not None
    assert served.weights.source == "directory"
    direct = independent_logits(shared_data / "weights" / "squeezenet1_0.safetensors", paths)
    error = np.linalg.norm(served["logits"] - direct, axis=1) / np.linalg.norm(direct, axis=1)
    assert error.max() < 1e-5
    assert np.count_nonzero(served["logits"].argmax(1) == truth) == 58


@pytest.fixture(scope="module")
def caltech(client: Client, shared_data: Path) -> Dataset:
    return client.datasets.upload(shared_data / "data" / "caltech101-40", name="caltech101-40")


@pytest.mark.parametrize(
    ("pool", "kind", "C", "figure"),
    [
        ("avg", "svm", 1.0, 89.9),
        ("avg", "logreg", 100.0, 89.5),
        ("grid:2", "svm", 1.0, 93.2),
        ("grid:2", "logreg", 100.0, 93.2),
    ],
)
def test_caltech_figures_come_out_within_half_a_point(
    client: Client, caltech: Dataset, pool: str, kind: str, C: float, figure: float
) -> None:
    accuracies = []
    for seed in range(3):
        job = client.heads.train(
            caltech,
            backbone="squeezenet1_0",
            tap="fire9",
            view="warp",
            pool=pool,
            normalize="l2",
            kind=kind,
            C=C,
            split={"train_per_class": 15, "seed": seed},
        )
        status = job.wait(timeout=600).status
        assert (status.total, status.failed) == (2094, 0)
        test = job.head().report.test
        assert test is not None
        accuracies.append(100 * test.mean_class_accuracy)
    print(f"{pool} {kind}: {np.mean(accuracies):.2f} +- {np.std(accuracies):.2f}")
    assert np.mean(accuracies) == pytest.approx(figure, abs=0.5)


@pytest.mark.parametrize(("tap", "figure"), [("fc6", 81.2), ("fc7:pre", 78.4), ("pool5", 84.3)])
def test_embednet_tells_caltech_classes_apart(
    client: Client, caltech: Dataset, tap: str, figure: float
) -> None:
    """The packaged backbone, named by nobody; the figures are those of its evaluation script."""
    accuracies = []
    for seed in range(3):
        split = {"train_per_class": 15, "seed": seed}
        job = client.heads.train(caltech, tap=tap, view="warp", normalize="l2", split=split)
        head = job.wait(timeout=600).head()
        assert (head.info.spec["backbone"], head.info.weights.source) == ("embednet", "package")
        assert head.report.test is not None
        accuracies.append(100 * head.report.test.mean_class_accuracy)
    print(f"embednet {tap}: {np.mean(accuracies):.2f} +- {np.std(accuracies):.2f}")
    assert np.mean(accuracies) == pytest.approx(figure, abs=1.0)

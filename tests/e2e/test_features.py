"""Features over HTTP equal plain torch, for single images and for batches."""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pyarrow as pa
import pytest

from offshelf_client import Client
from tests.reference import plain
from tests.reference.pictures import encode, picture
from tests.serving import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

# VGG-16 takes half a second an image: fewer batches of it, up to the same size.
BATCHES = {"alexnet": (1, 2, 3, 8, 17, 33, 64), "vgg16": (1, 5, 64)}


@dataclass
class Bench:
    """A service with seeded weights in torchvision's own format, images, and their features."""

    backbone: str
    client: Client
    url: str
    images: list[bytes]
    truth: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=sorted(BATCHES))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    kinds = ("JPEG", "PNG", "WEBP", "BMP")
    images = [encode(picture(seed), kinds[seed % 4]) for seed in range(64)]
    # Not tmp_path, which pytest keeps: VGG-16 has half a gigabyte.
    with tempfile.TemporaryDirectory() as folder:
        weights = plain.save_official(request.param, Path(folder))
        truth = plain.features(request.param, weights, images)
        settings = {"weights_dir": folder}
        with (
            Service(Path(folder) / "data", settings) as service,
            Client(service.url) as client,
        ):
            yield Bench(request.param, client, service.url, images, truth)


def test_every_tap_equals_plain_torch_for_batches_of_1_to_64(bench: Bench) -> None:
    for count in BATCHES[bench.backbone]:
        chosen = np.random.default_rng(count).choice(64, size=count, replace=False)
        answer = bench.client.features(
            [bench.images[i] for i in chosen], backbone=bench.backbone, taps=plain.TAPS
        )
        assert answer.weights is not None
        assert (answer.weights.source, answer.weights.random) == ("directory", False)
        assert list(answer.kept) == list(range(count))
        for tap in plain.TAPS:
            error = plain.worst_row_error(answer[tap], bench.truth[tap][chosen])
            assert error < plain.TOLERANCE, f"{tap} in a batch of {count}"
    assert len(set(answer.fingerprints.values())) == len(plain.TAPS)


def test_before_the_relu_is_before_the_relu(bench: Bench) -> None:
    answer = bench.client.features(
        bench.images[:2], backbone=bench.backbone, taps=["fc6", "fc6:pre", "fc7", "fc7:pre"]
    )
    for tap in ("fc6", "fc7"):
        assert (answer[f"{tap}:pre"] < 0).any()
        np.testing.assert_array_equal(answer[tap], np.maximum(answer[f"{tap}:pre"], 0))


@pytest.mark.parametrize("pool", ["avg", "max", "grid:2", "grid:3:avg"])
@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_pooling_and_normalisation_are_what_they_say(
    bench: Bench, pool: str, normalize: str
) -> None:
    maps = bench.truth["conv5"][:3].astype(np.float64)
    answer = bench.client.features(
        bench.images[:3], backbone=bench.backbone, taps="conv5", pool=pool, normalize=normalize
    )
    wanted = pooled(maps, pool).reshape(3, -1)
    if normalize == "l2":
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert plain.worst_row_error(answer["conv5"], wanted.astype(np.float32)) < plain.TOLERANCE


def pooled(maps: np.ndarray, pool: str) -> np.ndarray:
    """Pooling written out: a cell of an adaptive grid is [floor, ceil) of its share."""
    cells = int(pool.split(":")[1]) if pool.startswith("grid") else 1
    reduce = np.mean if pool.endswith("avg") else np.max
    side = maps.shape[-1]
    edges = [(i * side // cells, -(-(i + 1) * side // cells)) for i in range(cells)]
    rows = [
        [reduce(maps[:, :, top:bottom, left:right], axis=(2, 3)) for left, right in edges]
        for top, bottom in edges
    ]
    return np.moveaxis(np.array(rows), (0, 1), (2, 3))


def test_every_encoding_has_the_same_numbers(bench: Bench) -> None:
    def post(accept: str, **params: str) -> httpx.Response:
        return httpx.post(
            f"{bench.url}/v1/features",
            files=[("images", image) for image in bench.images[:2]],
            data={"backbone": bench.backbone, "taps": "fc7:pre", **params},
            headers={"Accept": accept},
            timeout=60,
        ).raise_for_status()

    wanted = bench.truth["fc7:pre"][:2]
    floats = post("application/json").json()["taps"]["fc7:pre"]
    coded = post("application/json", encoding="base64").json()["taps"]["fc7:pre"]
    table = pa.ipc.open_stream(post("application/vnd.apache.arrow.stream").content).read_all()
    column = next(name for name in table.column_names if "fc7" in name)
    answers = {
        "json": np.array(floats["data"], dtype=np.float32),
        "base64": np.frombuffer(base64.b64decode(coded["data"]), "<f4").reshape(2, -1),
        "npy": np.load(io.BytesIO(post("application/x-npy").content)),
        "npz": np.load(io.BytesIO(post("application/x-npz").content))["fc7:pre"],
        "arrow": np.stack(table[column].to_numpy()),
    }
    for name, got in answers.items():
        assert plain.worst_row_error(got, wanted) < plain.TOLERANCE, name
    assert floats["fingerprint"] == coded["fingerprint"]

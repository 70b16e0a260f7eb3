"""Views, stacks and whitening over HTTP, against torchvision, plain torch and scikit-learn."""

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
import torch
from sklearn.decomposition import PCA
from torchvision import transforms
from torchvision.transforms import functional as TF  # noqa: N812  # its usual name

from offshelf_client import Client, FingerprintMismatchError, InvalidParameterError, JobFailedError
from tests.e2e.pictures import write_digits
from tests.reference import plain
from tests.reference.pictures import encode, picture
from tests.serving import Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

SIZES = [(400, 300), (250, 400), (90, 60)]
IMAGES = [picture(number, *size) for number, size in enumerate(SIZES)]
FILES = [encode(image) for image in IMAGES]


@dataclass
class Bench:
    """A service with AlexNet in torchvision's own format, and the weights in it."""

    client: Client
    url: str
    state: Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        weights = plain.save_official("alexnet", Path(folder))
        settings = {"weights_dir": folder, "default_backbone": "alexnet"}
        with (
            Service(Path(folder) / "data", settings) as service,
            Client(service.url) as client,
        ):
            yield Bench(client, service.url, torch.load(weights, weights_only=True))


def ten_crops(bench: Bench) -> np.ndarray:
    """fc7 before its ReLU of ten crops of each image, (3, 10, 4096)."""
    rows = []
    for image in IMAGES:
        crops = transforms.TenCrop(224)(transforms.Resize(256)(image))
        with torch.inference_mode():
            rows.append(plain.alexnet(bench.state, plain.normalised(crops))["fc7:pre"].numpy())
    return np.stack(rows)


def test_ten_crops_are_averaged_joined_and_stacked(bench: Bench) -> None:
    crops = ten_crops(bench)
    wanted = {"mean": crops.mean(axis=1), "concat": crops.reshape(3, -1), "stack": crops}
    seen = set()
    for merge, want in wanted.items():
        got = bench.client.features(FILES, taps="fc7:pre", view="ten_crop", merge=merge)
        assert plain.worst_row_error(got["fc7:pre"], want) < plain.TOLERANCE, merge
        seen.add(got.fingerprints["fc7:pre"])
        assert got.specs["fc7:pre"]["merge"] == merge
    assert len(seen) == 3


def test_a_stack_is_the_same_in_every_encoding(bench: Bench) -> None:
    def post(accept: str, **params: str) -> httpx.Response:
        return httpx.post(
            f"{bench.url}/v1/features",
            files=[("images", data) for data in FILES],
            data={"taps": "fc7:pre", "view": "ten_crop", "merge": "stack", **params},
            headers={"Accept": accept},
            timeout=60,
        ).raise_for_status()

    floats = post("application/json").json()["taps"]["fc7:pre"]
    coded = post("application/json", encoding="base64").json()["taps"]["fc7:pre"]
    table = pa.ipc.open_stream(post("application/vnd.apache.arrow.stream").content).read_all()
    shape = pa.ipc.open_stream(post("application/vnd.apache.arrow.stream").content).schema
    assert shape.field("fc7:pre").metadata[b"shape"] == b"[10,4096]"
    answers = {
        "json": np.array(floats["data"], dtype=np.float32),
        "base64": np.frombuffer(base64.b64decode(coded["data"]), "<f4").reshape(coded["shape"]),
        "npy": np.load(io.BytesIO(post("application/x-npy").content)),
        "npz": np.load(io.BytesIO(post("application/x-npz").content))["fc7:pre"],
        "arrow": np.stack(table["fc7:pre"].to_numpy()).reshape(3, 10, 4096),
    }
    assert floats["shape"] == coded["shape"] == [3, 10, 4096]
    want = ten_crops(bench)
    for name, got in answers.items():
        assert plain.worst_row_error(got, want) < plain.TOLERANCE, name


def test_dense_with_mirrors_at_several_scales(bench: Bench) -> None:
    want = []
    for image in IMAGES:
        pooled = []
        for side in (256, 320):
            resized = transforms.Resize(side)(image)
            inputs = plain.normalised([resized, TF.hflip(resized)])
            with torch.inference_mode():
                maps = plain.alexnet_everywhere(bench.state, inputs)["fc7"]
            pooled.append(maps.mean((2, 3)).numpy())
        want.append(np.concatenate(pooled).mean(axis=0))
    rows = np.stack(want)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    got = bench.client.features(FILES, taps="fc7", view="dense:256,320+mirror", normalize="l2")
    assert plain.worst_row_error(got["fc7"], rows) < plain.TOLERANCE
    assert got.specs["fc7"]["pooling"] == "avg"


def test_what_cannot_be_is_refused_with_what_would_be_right(bench: Bench) -> None:
    for params, says in (
        ({"view": "tencrop"}, "did you mean ten_crop"),
        ({"view": "multi_scale:100"}, "below the network's input of 224"),
        ({"view": "dense:64"}, "224 or more"),
        ({"view": "dense:256", "pool": "none"}, "pool it by avg"),
        ({"normalize": "l2,l3"}, "power:P"),
    ):
        with pytest.raises(InvalidParameterError, match=says):
            bench.client.features(FILES[:1], taps="fc7", **params)


def test_an_extreme_shape_fails_alone_under_a_dense_view(bench: Bench) -> None:
    line = encode(picture(0, 3000, 2))
    got = bench.client.features(
        [FILES[0], line, FILES[1]], taps="fc7", view="dense:224", on_error="skip"
    )
    assert list(got.kept) == [0, 2]
    (failed,) = [item for item in got.items if item.error]
    assert failed.error is not None
    assert failed.error.code == "too_large"


def test_whitening_is_fitted_applied_and_learned_from(client: Client, tmp_path: Path) -> None:
    """Razavian's retrieval chain on embednet: L2, PCA-whitening, L2, signed power."""
    files = write_digits(tmp_path / "digits", per_class=8, classes=3)
    dataset = client.datasets.upload(tmp_path / "digits")
    asked = {"view": "squash+mirror", "backbone": "embednet"}
    job = client.feature_sets.create(dataset, taps="fc7", normalize="l2", **asked).wait()
    job = client.transforms.fit(job.result["feature_set"], 10).wait()
    transform = client.transforms.get(job.result["transform"])
    assert (transform.samples, transform.inputs, transform.dimensions) == (24, 1024, 10)
    raw = client.features(files, taps="fc7", normalize="l2", **asked)["fc7"].astype(float)
    white = PCA(10, whiten=True, svd_solver="full").fit_transform(raw)
    chain = f"l2,{transform.step}"
    got = client.features(files, taps="fc7", normalize=chain, **asked)
    signs = np.sign((got["fc7"] * white).sum(axis=0))
    np.testing.assert_allclose(got["fc7"] * signs, white, atol=1e-3)
    assert got.specs["fc7"]["normalisation"] == chain
    rooted = client.features(files, taps="fc7", normalize=f"{chain},l2,power:2", **asked)["fc7"]
    unit = white / np.linalg.norm(white, axis=1, keepdims=True)
    np.testing.assert_allclose(rooted * signs, np.sign(unit) * unit**2, atol=1e-3)
    head = client.heads.train(dataset, tap="fc7", normalize=f"{chain},l2", **asked).wait().head()
    assert head.report.train.accuracy > 0.9
    labels = [prediction.label for prediction in head.predict(files)]
    agreeing = [label == path.parent.name for label, path in zip(labels, files, strict=True)]
    assert np.mean(agreeing) == pytest.approx(head.report.train.accuracy)
    with pytest.raises(FingerprintMismatchError, match=r"view: squash\+mirror != center"):
        client.features(files[:1], taps="fc7", normalize=chain, backbone="embednet")
    with pytest.raises(JobFailedError, match="ask for 23 at most"):
        client.transforms.fit(transform.feature_set, 24).wait()
    client.transforms.delete(transform.id)
    assert transform.id not in [other.id for other in client.transforms.list()]


def test_a_head_learns_from_a_stack_in_one_row(client: Client, tmp_path: Path) -> None:
    files = write_digits(tmp_path / "digits", per_class=6, classes=2)
    dataset = client.datasets.upload(tmp_path / "digits")
    asked = {"tap": "fc7", "view": "five_crop", "merge": "stack", "normalize": "l2"}
    head = client.heads.train(dataset, backbone="embednet", **asked).wait().head()
    assert head.info.spec["merge"] == "stack"
    labels = [prediction.label for prediction in head.predict(files)]
    agreeing = [label == path.parent.name for label, path in zip(labels, files, strict=True)]
    assert np.mean(agreeing) == pytest.approx(head.report.train.accuracy)

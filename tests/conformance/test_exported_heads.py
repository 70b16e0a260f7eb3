"""One ONNX file, fed whole images, says what the service says of them.

What the service says comes through the worker's extractor from the images' files; the file gets
their pixels, and runs in onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from offshelf.core.batching import Lane
from offshelf.engine.decode import Limits, decode
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.heads import onnx_full
from offshelf.heads.interface import SOLVERS
from offshelf.heads.model import LinearHead
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from offshelf.worker.planning import weights_body
from tests.reference.pictures import encode, picture
from tests.unit.heads.cards import card

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from offshelf.engine.extractor import Plan

pytestmark = pytest.mark.timeout(400)  # torch's exporter takes seconds, and more where others run

LIMITS = Limits(1 << 26, 1 << 26)
TOLERANCE = 1e-4


def rows_of(extractor: Extractor, plan: Plan, files: Sequence[bytes]) -> NDArray[np.float32]:
    futures = [extractor.submit(file, plan, Lane.BULK) for file in files]
    return np.stack([next(iter(future.result(120).values())) for future in futures])


def trained(plan: Plan, rows: NDArray[np.float32], kind: Any, classes: int) -> LinearHead:
    """A head that was trained on these rows, the classes in turn."""
    (spec,) = plan.specs.values()
    X = rows.reshape(len(rows), -1)
    fitted = SOLVERS.get(kind)(X, np.arange(len(X), dtype=np.int64) % classes, 1.0)
    names = [f"class {number}" for number in range(classes)]
    told = card("head-1", spec, kind=kind, classes=names,
                weights=weights_body(plan.resident.weights))  # fmt: skip
    return LinearHead(told, fitted.coef, fitted.intercept)


def differences(session: Any, files: Sequence[bytes], expected: NDArray[np.float32]) -> list[float]:
    """By image, the largest difference of a score."""
    found = []
    for file, scores in zip(files, expected, strict=True):
        pixels = np.asarray(decode(file, LIMITS))[np.newaxis]
        given, label = session.run(["scores", "label"], {"images": pixels})
        assert label[0] == given[0].argmax()
        found.append(float(np.abs(given[0] - scores).max()))
    return found


def exported(head: LinearHead, plan: Plan) -> Any:
    model = onnx_full.assembled(head, plan).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("params", [
    {"view": "center", "normalize": "l2"},
    {"view": "warp", "normalize": "none", "tap": "fire8"},
])  # fmt: skip
def test_a_hundred_real_images_through_squeezenet(
    shared_data: Path, params: dict[str, str], record_property: Any
) -> None:
    settings = Settings(device="cpu", weights_dir=shared_data / "weights")
    extractor = Extractor(TorchEngine(settings), settings)
    paths = sorted((shared_data / "data" / "imagenet-samples").glob("*.JPEG"))
    files = [path.read_bytes() for path in paths]
    assert len(files) == 100
    tap = params.get("tap", "penultimate")
    try:
        asked = FeatureParams(
            backbone="squeezenet1_0", taps=[tap], pool="avg",
            view=params["view"], normalize=params["normalize"],
        )  # fmt: skip
        with extractor.resolve(asked) as plan:
            rows = rows_of(extractor, plan, files)
            head = trained(plan, rows, "svm", 5)
            found = differences(exported(head, plan), files, head.scores(rows))
    finally:
        extractor.close(20)
    record_property("largest_difference", max(found))
    print(f"{params}: largest difference {max(found):.2e} over {len(found)} images")
    assert max(found) <= TOLERANCE


@pytest.mark.parametrize(
    ("backbone", "weights", "tap", "kind", "more"),
    [
        ("embednet", None, "penultimate", "logreg", {"view": "ten_crop", "normalize": "l2"}),
        ("embednet", None, "conv5", "svm", {"pool": "pyramid:1,2", "normalize": "power:0.5,l2"}),
        ("alexnet", "random:0", "fc6:pre", "svm", {"view": "warp", "normalize": "l2"}),
        ("resnet18", "random:0", "penultimate", "logreg", {"view": "squash+mirror"}),
    ],
)
def test_other_networks_views_and_chains(
    backbone: str, weights: str | None, tap: str, kind: str, more: dict[str, str]
) -> None:
    settings = Settings(device="cpu")
    extractor = Extractor(TorchEngine(settings), settings)
    sizes = [(90, 70), (70, 240), (333, 251), (500, 60), (224, 224), (72, 72)]
    files = [encode(picture(seed, *size)) for seed, size in enumerate(sizes)]
    try:
        asked = FeatureParams(backbone=backbone, weights=weights, taps=[tap], **more)
        with extractor.resolve(asked) as plan:
            rows = rows_of(extractor, plan, files)
            head = trained(plan, rows, kind, 3)
            found = differences(exported(head, plan), files, head.scores(rows))
    finally:
        extractor.close(20)
    assert max(found) <= TOLERANCE


def test_images_of_one_size_may_go_together() -> None:
    settings = Settings(device="cpu")
    extractor = Extractor(TorchEngine(settings), settings)
    pictures = [picture(seed, 120, 95) for seed in range(3)]
    try:
        with extractor.resolve(FeatureParams(backbone="embednet")) as plan:
            rows = rows_of(extractor, plan, [encode(one) for one in pictures])
            head = trained(plan, rows, "svm", 3)
            session = exported(head, plan)
    finally:
        extractor.close(20)
    (scores,) = session.run(["scores"], {"images": np.stack([np.asarray(p) for p in pictures])})
    assert np.allclose(scores, head.scores(rows), atol=TOLERANCE)
    with pytest.raises(Exception, match=r"Got invalid dimensions"):
        session.run(["scores"], {"images": np.zeros((1, 50, 50, 4), np.uint8)})

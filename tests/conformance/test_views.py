"""Views through the Extractor equal torchvision's transforms and plain torch, written out here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # its usual name
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF  # noqa: N812  # its usual name

from offshelf.core.batching import Lane
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import InvalidParameter, TooLarge
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference import plain
from tests.reference.pictures import encode, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from PIL import Image
    from torch import Tensor

    from offshelf.core.spec import Merge

# Landscape, portrait, square; one smaller than the crop and one far from square.
IMAGES = [
    picture(number, *size)
    for number, size in enumerate([(400, 300), (250, 400), (256, 256), (90, 60), (640, 230)])
]
FILL = [round(255 * value) for value in (0.485, 0.456, 0.406)]


@pytest.fixture(scope="module")
def state() -> Iterator[tuple[Extractor, Mapping[str, Tensor]]]:
    """An extractor on AlexNet with seeded weights, and those weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = plain.save_official("alexnet", Path(folder))
        settings = Settings(weights_dir=Path(folder), device="cpu", linger_ms=200)
        extractor = Extractor(TorchEngine(settings), settings)
        yield extractor, torch.load(path, weights_only=True)
        extractor.close(30)


def extracted(extractor: Extractor, images: list[Image.Image], **params: object) -> np.ndarray:
    """Rows of all images, submitted at once so that they share batches."""
    (tap,) = params["taps"]  # type: ignore[misc]  # a list of one
    plan = extractor.resolve(FeatureParams(backbone="alexnet", **params))
    futures = [extractor.submit(encode(image), plan, Lane.BULK) for image in images]
    rows = [future.result(100)[tap] for future in futures]
    assert plan.bytes_per_image == rows[0].nbytes
    return np.stack(rows)


def ten_crop(image: Image.Image) -> list[Image.Image]:
    return list(transforms.TenCrop(224)(transforms.Resize(256)(image)))


def five_crop_mirrored(image: Image.Image) -> list[Image.Image]:
    crops = list(transforms.FiveCrop(224)(transforms.Resize(256)(image)))
    return crops + [TF.hflip(crop) for crop in crops]


def three_scales(image: Image.Image) -> list[Image.Image]:
    crop = transforms.CenterCrop(224)
    return [crop(transforms.Resize(side)(image)) for side in (384, 256, 224)]


def turned(image: Image.Image) -> list[Image.Image]:
    """Flipped upside down, then rotated by 30 degrees, then DeCAF's warp."""
    image = TF.rotate(TF.vflip(image), 30, InterpolationMode.BILINEAR, fill=FILL)
    return [transforms.CenterCrop(224)(transforms.Resize((256, 256))(image))]


def razavian(image: Image.Image) -> list[Image.Image]:
    part = [round(image.height * 2 / 3), round(image.width * 2 / 3)]
    shown = [image, *transforms.FiveCrop(part)(image)]
    shown += [TF.rotate(image, by, InterpolationMode.BILINEAR, fill=FILL) for by in (15, -15)]
    shown = [transforms.Resize((224, 224))(one) for one in shown]
    return shown + [TF.hflip(one) for one in shown]


CROPPED: dict[str, Callable[[Image.Image], list[Image.Image]]] = {
    "squash": lambda image: [transforms.Resize((224, 224))(image)],
    "ten_crop": ten_crop,
    "five_crop+mirror": five_crop_mirrored,
    "multi_scale:384,256,224": three_scales,
    "warp+vflip+rotate:30": turned,
    "razavian": razavian,
}


def merged(how: Merge, rows: np.ndarray) -> np.ndarray:
    """What becomes of (k, D): the mean, one row, or all."""
    return {"mean": rows.mean(axis=0), "concat": rows.ravel(), "stack": rows}[how]


@pytest.mark.parametrize("merge", ["mean", "concat", "stack"])
@pytest.mark.parametrize("view", CROPPED)
def test_crops_and_augmentations_are_those_of_a_direct_computation(
    state: tuple[Extractor, Mapping[str, Tensor]], view: str, merge: Merge
) -> None:
    extractor, weights = state
    got = extracted(extractor, IMAGES, taps=["fc6:pre"], view=view, merge=merge)
    want = []
    for image in IMAGES:
        with torch.inference_mode():
            taps = plain.alexnet(weights, plain.normalised(CROPPED[view](image)))
        want.append(merged(merge, taps["fc6:pre"].numpy()))
    assert plain.worst_row_error(got, np.stack(want)) < plain.TOLERANCE


def dense_maps(
    weights: Mapping[str, Tensor], image: Image.Image, sides: tuple[int, ...], tap: str
) -> list[Tensor]:
    """The map (C, H, W) of each scale, plain then mirrored."""
    maps = []
    for side in sides:
        resized = transforms.Resize(side)(image)
        inputs = plain.normalised([resized, TF.hflip(resized)])
        with torch.inference_mode():
            maps += list(plain.alexnet_everywhere(weights, inputs)[tap])
    return maps


@pytest.mark.parametrize("tap", ["conv5", "fc6:pre", "fc7"])
@pytest.mark.parametrize("merge", ["mean", "stack"])
def test_dense_is_vggs_protocol_of_a_direct_computation(
    state: tuple[Extractor, Mapping[str, Tensor]], tap: str, merge: Merge
) -> None:
    extractor, weights = state
    got = extracted(extractor, IMAGES, taps=[tap], view="dense:288,240+mirror", merge=merge)
    want = []
    for image in IMAGES:
        maps = dense_maps(weights, image, (288, 240), tap)
        want.append(merged(merge, np.stack([one.mean((1, 2)).numpy() for one in maps])))
    assert plain.worst_row_error(got, np.stack(want)) < plain.TOLERANCE


@pytest.mark.parametrize("pool", ["max", "grid:2", "pyramid:1,3:avg"])
def test_dense_maps_are_pooled_as_asked(
    state: tuple[Extractor, Mapping[str, Tensor]], pool: str
) -> None:
    extractor, weights = state
    got = extracted(extractor, IMAGES, taps=["fc6"], view="dense:320", pool=pool)
    want = []
    for image in IMAGES:
        fc6 = dense_maps(weights, image, (320,), "fc6")[0]
        levels = {
            "max": lambda m: m.amax((1, 2)),
            "grid:2": lambda m: F.adaptive_max_pool2d(m, 2).flatten(),
            "pyramid:1,3:avg": lambda m: torch.cat(
                [m.mean((1, 2)), F.adaptive_avg_pool2d(m, 3).flatten()]
            ),
        }
        want.append(levels[pool](fc6).numpy())
    assert plain.worst_row_error(got, np.stack(want)) < plain.TOLERANCE


def test_dense_at_the_networks_own_size_is_the_plain_feature(
    state: tuple[Extractor, Mapping[str, Tensor]],
) -> None:
    extractor, _ = state
    square = [picture(9, 224, 224)]
    dense = extracted(extractor, square, taps=["fc7"], view="dense:224")
    assert np.array_equal(dense, extracted(extractor, square, taps=["fc7"], view="squash"))


def test_normalisation_comes_after_merging(
    state: tuple[Extractor, Mapping[str, Tensor]],
) -> None:
    extractor, weights = state
    asked = {"taps": ["fc6:pre"], "view": "ten_crop"}
    got = extracted(extractor, IMAGES[:2], **asked, normalize="l2,power:2")
    stacked = extracted(extractor, IMAGES[:2], **asked, normalize="l2", merge="stack")
    for row, crops, image in zip(got, stacked, IMAGES, strict=False):
        with torch.inference_mode():
            raw = plain.alexnet(weights, plain.normalised(ten_crop(image)))["fc6:pre"].numpy()
        mean = raw.mean(axis=0)
        unit = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(row, np.sign(unit) * unit**2, rtol=1e-3, atol=1e-6)
        each = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        np.testing.assert_allclose(crops, each, rtol=1e-3, atol=1e-5)


def test_a_stack_of_maps_keeps_the_taps_shape(
    state: tuple[Extractor, Mapping[str, Tensor]],
) -> None:
    extractor, weights = state
    got = extracted(extractor, IMAGES[:2], taps=["pool5"], view="five_crop+mirror", merge="stack")
    assert got.shape == (2, 10, 256, 6, 6)
    with torch.inference_mode():
        want = plain.alexnet(weights, plain.normalised(five_crop_mirrored(IMAGES[1])))["pool5"]
    assert plain.worst_row_error(got[1], want.numpy()) < plain.TOLERANCE


def test_a_dense_image_beyond_measure_fails_alone(
    state: tuple[Extractor, Mapping[str, Tensor]],
) -> None:
    extractor, _ = state
    plan = extractor.resolve(FeatureParams(backbone="alexnet", taps=["fc7"], view="dense:300"))
    images = [IMAGES[0], picture(1, 2000, 3), IMAGES[1]]
    futures = [extractor.submit(encode(image), plan, Lane.BULK) for image in images]
    with pytest.raises(TooLarge, match="dense input of 200000 x 300"):
        futures[1].result(100)
    assert all(np.isfinite(futures[i].result(100)["fc7"]).all() for i in (0, 2))


def test_scales_that_the_network_cannot_take_are_refused_before_any_image(
    state: tuple[Extractor, Mapping[str, Tensor]],
) -> None:
    extractor, _ = state
    for view, says in (("dense:300,64", "224 or more"), ("multi_scale:100", "side 100 is below")):
        with pytest.raises(InvalidParameter, match=says):
            extractor.resolve(FeatureParams(backbone="alexnet", taps=["fc7"], view=view))

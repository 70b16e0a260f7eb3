"""Views in ONNX are those of `engine.views`, to the pixel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from offshelf.backbones.imagenet import PRESET
from offshelf.core.spec import Preprocessing
from offshelf.core.view import View
from offshelf.engine.onnx import views as onnx_views
from offshelf.engine.onnx.nodes import Nodes, model, tensor
from offshelf.engine.onnx.views import add_view, check_exported, orders_by_size
from offshelf.engine.views import view
from offshelf.errors import InvalidParameter
from tests.reference.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable

BICUBIC = Preprocessing(232, 224, "bicubic", PRESET.mean, PRESET.std)
SMALL = Preprocessing(51, 40, "bilinear", PRESET.mean, PRESET.std)
VIEWS = (
    "center", "warp", "squash", "center+hflip", "warp+vflip+mirror", "five_crop", "ten_crop",
    "ten_crop+hflip", "multi_scale:60,41+mirror",
)  # fmt: skip


@lru_cache(64)
def exported(name: str, pre: Preprocessing) -> Callable[[np.ndarray], np.ndarray]:
    """A view as onnxruntime runs it, of images (N, H, W, 3)."""
    nodes = Nodes("view")
    wanted = View.parse(name)
    out = add_view(nodes, "images", wanted, pre)
    shape = ["N", wanted.inputs, 3, pre.crop, pre.crop]
    made = model(
        [nodes],
        [tensor("images", np.uint8, ["N", "H", "W", 3])],
        [tensor(out, np.float32, shape)],
        {},
    )
    session = onnxruntime.InferenceSession(made.SerializeToString())
    return lambda images: session.run(None, {"images": images})[0]


def expected(image: Image.Image, name: str, pre: Preprocessing) -> np.ndarray:
    return np.concatenate(view(image, View.parse(name), pre)).transpose(0, 3, 1, 2)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from(VIEWS),
    st.sampled_from(["bilinear", "bicubic"]),
)
def test_a_view_is_the_service_s_to_the_pixel(
    width: int, height: int, name: str, interpolation: str
) -> None:
    image = picture(width * 1000 + height, width, height)
    pre = Preprocessing(51, 40, interpolation, PRESET.mean, PRESET.std)
    (got,) = exported(name, pre)(np.asarray(image)[np.newaxis])
    assert np.array_equal(got, expected(image, name, pre))


@pytest.mark.parametrize("pre", [PRESET, BICUBIC])
@pytest.mark.parametrize("name", ["center", "warp", "squash"])
def test_the_presets_are_too_at_sizes_far_apart(name: str, pre: Preprocessing) -> None:
    for size in ((32, 500), (500, 32), (4000, 300), (300, 1700), (224, 224), (1, 9), (801, 333)):
        image = Image.fromarray(
            np.random.default_rng(size[0]).integers(0, 256, (*size[::-1], 3), np.uint8)
        )
        (got,) = exported(name, pre)(np.asarray(image)[np.newaxis])
        assert np.array_equal(got, expected(image, name, pre)), size


def test_images_of_one_size_go_together() -> None:
    images = [picture(seed, 90, 70) for seed in range(3)]
    got = exported("center", SMALL)(np.stack([np.asarray(image) for image in images]))
    for one, image in zip(got, images, strict=True):
        assert np.array_equal(one, expected(image, "center", SMALL))


def test_the_order_of_the_axes_is_that_of_the_pillow_that_is_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it depends on the size, a graph that always begins with the rows differs."""
    tall = picture(3, 30, 390)
    monkeypatch.setattr(onnx_views, "orders_by_size", lambda: False)
    exported.cache_clear()
    rows_first = exported("warp", SMALL)(np.asarray(tall)[np.newaxis])[0]
    exported.cache_clear()
    difference = np.abs(rows_first - expected(tall, "warp", SMALL))
    assert (difference.max() > 0) == orders_by_size()
    assert difference.max() <= 2


@pytest.mark.parametrize(
    ("name", "what"),
    [("dense:256", "dense"), ("razavian", "razavian"), ("center+rotate:10", r"\+rotate")],
)
def test_what_has_no_onnx_form_is_refused(name: str, what: str) -> None:
    with pytest.raises(InvalidParameter, match=f"{what} has no ONNX form. Views that have: center"):
        check_exported(View.parse(name))

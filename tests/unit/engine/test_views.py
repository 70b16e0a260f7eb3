from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from offshelf.backbones.imagenet import PRESET
from offshelf.core.spec import Preprocessing
from offshelf.core.view import View
from offshelf.engine import views
from offshelf.engine.views import view
from tests.reference.pictures import picture

BICUBIC = Preprocessing(232, 224, "bicubic", PRESET.mean, PRESET.std)


def by_torchvision(image: Image.Image, name: str, pre: Preprocessing) -> np.ndarray:
    size = pre.resize if name == "center" else (pre.resize, pre.resize)
    resize = transforms.Resize(size, InterpolationMode(pre.interpolation))
    return np.asarray(transforms.CenterCrop(pre.crop)(resize(image)))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from(["center", "warp"]),
    st.sampled_from([PRESET, BICUBIC]),
)
def test_a_view_is_torchvisions_to_the_pixel(
    width: int, height: int, name: str, pre: Preprocessing
) -> None:
    image = picture(width * 1000 + height, width, height)
    if max(width, height) > 200 * min(width, height):
        return  # see the test of extreme shapes
    assert np.array_equal(
        view(image, View.parse(name), pre)[0][0], by_torchvision(image, name, pre)
    )


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (224, 224), (1, 240), (240, 1), (4000, 30)])
@pytest.mark.parametrize("name", ["center", "warp"])
def test_odd_sizes_are_torchvisions_to_the_pixel(size: tuple[int, int], name: str) -> None:
    image = picture(1, *size)
    (cut,) = view(image, View.parse(name), PRESET)
    assert (cut.shape, cut.dtype) == ((1, 224, 224, 3), np.uint8)
    assert np.array_equal(cut[0], by_torchvision(image, name, PRESET))


@pytest.mark.parametrize("size", [(2, 700), (700, 2), (1, 600), (3000, 7), (3, 1001)])
@pytest.mark.parametrize("pre", [PRESET, BICUBIC])
def test_an_extreme_shape_is_cut_before_it_is_enlarged(
    size: tuple[int, int], pre: Preprocessing
) -> None:
    image = picture(2, *size)
    cut = view(image, View("center"), pre)[0][0]
    assert np.abs(cut.astype(int) - by_torchvision(image, "center", pre)).max() <= 1


def test_a_line_of_a_million_pixels_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, size: tuple[int, int], *args: object, **more: object) -> object:
        made.append(size[0] * size[1])
        return resize(self, size, *args, **more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    assert view(Image.new("RGB", (1, 1_000_000), "red"), View("center"), PRESET)[0].shape[0] == 1
    assert max(made) <= views.MAX_RESIZED_PIXELS

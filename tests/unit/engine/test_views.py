from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF  # noqa: N812  # its usual name

from offshelf.backbones.imagenet import PRESET
from offshelf.core.spec import Preprocessing
from offshelf.core.view import View
from offshelf.engine import views
from offshelf.engine.views import view
from offshelf.errors import TooLarge
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


def normal(image: Image.Image, pre: Preprocessing) -> Image.Image:
    """The image as the preset resizes it."""
    return transforms.Resize(pre.resize, InterpolationMode(pre.interpolation))(image)


SHAPES = [(1, 1), (500, 375), (375, 501), (40, 30), (224, 224), (257, 511), (60, 4), (3, 90)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("pre", [PRESET, BICUBIC])
@pytest.mark.parametrize(
    ("text", "crops"), [("five_crop", transforms.FiveCrop), ("ten_crop", transforms.TenCrop)]
)
def test_five_and_ten_crops_are_torchvisions_to_the_pixel(
    size: tuple[int, int], pre: Preprocessing, text: str, crops: type
) -> None:
    image = picture(3, *size)
    (stack,) = view(image, View.parse(text), pre)
    want = np.stack([np.asarray(crop) for crop in crops(pre.crop)(normal(image, pre))])
    assert np.array_equal(stack, want)


@pytest.mark.parametrize("size", SHAPES)
def test_squash_scales_and_dense_are_torchvisions_resize(size: tuple[int, int]) -> None:
    image = picture(4, *size)
    (squashed,) = view(image, View("squash"), PRESET)
    assert np.array_equal(squashed[0], np.asarray(transforms.Resize((224, 224))(image)))
    (scales,) = view(image, View.parse("multi_scale:300,256"), PRESET)
    for cut, side in zip(scales, (300, 256), strict=True):
        resized = transforms.Resize(side)(image)
        assert np.array_equal(cut, np.asarray(transforms.CenterCrop(224)(resized)))
    whole = view(image, View.parse("dense:100,64+mirror"), PRESET)
    for stack, side in zip(whole, (100, 64), strict=True):
        resized = transforms.Resize(side)(image)
        assert np.array_equal(stack[0], np.asarray(resized))
        assert np.array_equal(stack[1], np.asarray(TF.hflip(resized)))


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("degrees", [-90, 10, 15.5, 180])
def test_changes_are_torchvisions_flips_and_rotation(size: tuple[int, int], degrees: float) -> None:
    image = picture(5, *size)
    fill = [round(255 * value) for value in PRESET.mean]
    turned = TF.rotate(TF.vflip(TF.hflip(image)), degrees, InterpolationMode.BILINEAR, fill=fill)
    changed = View.parse(f"squash+hflip+vflip+rotate:{degrees}")
    (stack,) = view(image, changed, PRESET)
    assert np.array_equal(stack[0], np.asarray(transforms.Resize((224, 224))(turned)))


@pytest.mark.parametrize("size", SHAPES)
def test_razavians_sixteen_are_those_of_the_paper(size: tuple[int, int]) -> None:
    image = picture(6, *size)
    fill = [round(255 * value) for value in PRESET.mean]
    part = [max(1, round(side * 2 / 3)) for side in (image.height, image.width)]
    eight = [
        image,
        *transforms.FiveCrop(part)(image),
        TF.rotate(image, 20, InterpolationMode.BILINEAR, fill=fill),
        TF.rotate(image, -20, InterpolationMode.BILINEAR, fill=fill),
    ]
    squashed = [transforms.Resize((224, 224))(shown) for shown in eight]
    want = [np.asarray(shown) for shown in squashed + [TF.hflip(shown) for shown in squashed]]
    (stack,) = view(image, View.parse("razavian:20"), PRESET)
    assert np.array_equal(stack, np.stack(want))


def test_a_corner_that_rotation_brings_in_has_the_mean_colour() -> None:
    (stack,) = view(Image.new("RGB", (100, 100)), View.parse("squash+rotate:45"), PRESET)
    assert stack[0, 0, 0].tolist() == [124, 116, 104]
    assert stack[0, 112, 112].tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [(1, 1000), (100_000, 10), (4000, 300)])
def test_a_dense_view_beyond_measure_is_this_images_error(size: tuple[int, int]) -> None:
    with pytest.raises(TooLarge, match=r"dense input of \d+ x \d+, and the limit is 2097152"):
        view(Image.new("RGB", size), View.parse("dense:600"), PRESET)


@pytest.mark.parametrize("text", ["five_crop", "ten_crop", "multi_scale:512", "razavian", "warp"])
def test_other_views_of_extreme_shapes_take_little_memory(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, size: tuple[int, int], *args: object, **more: object) -> object:
        made.append(size[0] * size[1])
        return resize(self, size, *args, **more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    wanted = View.parse(text)
    (stack,) = view(Image.new("RGB", (1, 100_000), "red"), wanted, PRESET)
    assert stack.shape == (wanted.inputs, 224, 224, 3)
    assert max(made) <= views.MAX_RESIZED_PIXELS

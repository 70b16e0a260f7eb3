"""Every kind of image arrives as the pixels that the caller has."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import offshelf_client as sdk
from offshelf_client._images import ImageSource, encode, png, sources

if TYPE_CHECKING:
    from collections.abc import Callable

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def encoded_png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@given(
    arrays.arrays(
        np.uint8,
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
        ),
    )
)
def test_png_is_lossless(pixels: np.ndarray) -> None:
    again = decoded(png(pixels))
    assert again.shape == pixels.shape
    assert np.array_equal(again, pixels)


def test_png_of_a_view_with_strides_is_the_view() -> None:
    assert np.array_equal(decoded(png(RGB[::-1, ::2])), RGB[::-1, ::2])


def as_path(tmp_path: Path) -> ImageSource:
    path = tmp_path / "a.png"
    path.write_bytes(encoded_png(RGB))
    return path


@pytest.mark.parametrize(
    "make",
    [
        as_path,
        lambda tmp_path: str(as_path(tmp_path)),
        lambda _: encoded_png(RGB),
        lambda _: memoryview(encoded_png(RGB)),
        lambda _: bytearray(encoded_png(RGB)),
        lambda _: RGB,
        lambda _: Image.fromarray(RGB),
        lambda _: io.BytesIO(encoded_png(RGB)),
    ],
    ids=["path", "str", "bytes", "memoryview", "bytearray", "array", "pil", "file"],
)
def test_kind_of_image(tmp_path: Path, make: Callable[[Path], ImageSource]) -> None:
    found, total = sources(make(tmp_path))
    (image,) = (encode(i, source) for i, source in enumerate(found))
    assert total == 1
    assert image.error is None
    assert np.array_equal(decoded(image.data), RGB)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pil_modes_that_png_holds_stay_as_they_are(mode: str) -> None:
    image = Image.new(mode, (4, 3))
    with Image.open(io.BytesIO(encode(0, image).data)) as again:
        assert (again.mode, again.size) == (mode, (4, 3))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_other_pil_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    assert np.array_equal(decoded(encode(0, image).data), np.asarray(image.convert("RGB")))


def test_exif_orientation_does_not_turn_the_pixels_of_a_pil_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.fromarray(RGB).save(out, "JPEG", exif=exif)
    with Image.open(io.BytesIO(out.getvalue())) as image:
        seen = np.asarray(image)
        data = encode(0, image).data
    with Image.open(io.BytesIO(data)) as again:
        assert 0x0112 not in again.getexif()
        assert np.array_equal(np.asarray(again), seen)


def test_four_dimensional_array_and_list_of_arrays_are_many_images() -> None:
    for many in (np.stack([RGB, 255 - RGB]), [RGB, 255 - RGB]):
        found, total = sources(many)
        images = [encode(i, source) for i, source in enumerate(found)]
        assert total == 2
        assert np.array_equal(decoded(images[1].data), 255 - RGB)


def test_folder_gives_its_images_sorted_with_those_of_its_sub_folders(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "a/1.PNG", "a/notes.txt", "c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found, total = sources(tmp_path)
    assert list(found) == [tmp_path / name for name in ("a/1.PNG", "b/2.jpg", "c.webp")]
    assert total == 3


def test_generators_are_read_lazily() -> None:
    drawn: list[int] = []

    def many():
        for i in range(3):
            drawn.append(i)
            yield b"x"

    found, total = sources(many())
    assert total is None
    next(found)
    assert drawn == [0]


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4), np.uint8),
        Path("nowhere.png"),
        Path(),
    ],
    ids=["float", "four channels", "empty", "missing", "folder among files"],
)
def test_what_cannot_be_read_is_an_error_of_that_image(bad: ImageSource) -> None:
    image = encode(3, bad)
    assert image.index == 3
    assert image.error is not None
    assert image.data == b""


@pytest.mark.parametrize("bad", [None, 3, 2.5])
def test_what_is_no_image_at_all_is_a_type_error(bad: ImageSource) -> None:
    with pytest.raises(TypeError, match="cannot be"):
        sources(bad)
    with pytest.raises(TypeError):
        encode(0, bad)


def test_text_file_is_refused() -> None:
    with pytest.raises(TypeError, match="binary"):
        encode(0, io.StringIO("x"))  # type: ignore[arg-type]  # on purpose


def test_single_path_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(sdk.UnreadableImage, match="nowhere"):
        sdk.Client().features("nowhere/")

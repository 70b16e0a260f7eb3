from __future__ import annotations

import contextlib
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from offshelf.engine.decode import FORMATS, Limits, decode
from offshelf.errors import InvalidImage, TooLarge
from tests.reference.pictures import encode, picture

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1_000_000)
PICTURE = picture(0, 60, 40)


def pixels(data: bytes) -> np.ndarray:
    image = decode(data, LIMITS)
    assert image.mode == "RGB"
    return np.asarray(image)


def difference(data: bytes, want: Image.Image) -> int:
    return int(np.abs(pixels(data).astype(int) - np.asarray(want.convert("RGB"))).max())


def test_it_reads_six_formats() -> None:
    assert sorted(FORMATS) == ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"]


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_lossless_formats_give_every_pixel(kind: str, options: dict[str, bool]) -> None:
    assert difference(encode(PICTURE, kind, **options), PICTURE) == 0


def test_jpeg_and_gif_give_what_pillow_gives() -> None:
    for kind in ("JPEG", "GIF"):
        data = encode(PICTURE, kind)
        assert difference(data, Image.open(io.BytesIO(data))) == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert difference(data, frames[0]) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    corners = Image.new("RGB", (48, 32), "black")
    corners.paste("white", (0, 0, 16, 16))  # top left, in the file
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = pixels(encode(corners, kind, exif=exif))
    assert seen.shape[:2] == ((48, 32) if orientation <= 4 else (32, 48))[::-1]
    # Where the file's top left is seen, by the EXIF standard.
    bottom = orientation in (3, 4, 7, 8)
    right = orientation in (2, 3, 6, 7)
    assert seen[-8 if bottom else 8, -8 if right else 8].min() > 200
    assert seen[8 if bottom else -8, 8 if right else -8].max() < 55


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert difference(encode(PICTURE, "PNG", exif=exif), PICTURE) == 0


def test_damaged_exif_is_ignored() -> None:
    data = encode(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01garbage")
    assert pixels(data).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_grey_is_repeated(kind: str) -> None:
    seen = pixels(encode(Image.linear_gradient("L"), kind))
    assert np.ptp(seen, axis=2).max() == 0
    assert (seen.min(), seen.max()) == (0, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    bits = Image.linear_gradient("L").convert("1")
    assert set(np.unique(pixels(encode(bits, kind)))) == {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    wide = np.array([[0, 128, 129, 257, 32896, 65278, 65535]], dtype=np.uint16)
    seen = pixels(encode(Image.fromarray(wide), kind))
    assert seen[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255]


def test_big_endian_16_bit_tiff_is_read_alike() -> None:
    wide = np.array([[0, 257, 65535]], dtype=">u2")
    header = b"MM\0*" + struct.pack(">I", 8)
    tags = [
        (256, 3, 3),
        (257, 3, 1),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 122),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 6),
    ]
    directory = struct.pack(">H", len(tags))
    for tag, kind, value in tags:
        packed = struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        directory += struct.pack(">HHI", tag, kind, 1) + packed
    data = header + directory + struct.pack(">I", 0)
    assert len(data) == 122
    assert pixels(data + wide.tobytes())[0, :, 0].tolist() == [0, 1, 255]


def test_16_bit_white_is_zero_tiff_is_turned_round() -> None:
    wide = np.array([[0, 65535]], dtype=np.uint16)
    data = encode(Image.fromarray(wide), "TIFF", tiffinfo={262: 0})
    assert pixels(data)[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_samples_are_refused_with_what_would_be_right(dtype: type) -> None:
    data = encode(Image.fromarray(np.ones((4, 4), dtype=dtype)), "TIFF")
    with pytest.raises(InvalidImage, match="save it with 8 or 16 bits a sample"):
        decode(data, LIMITS)


def test_transparency_is_laid_over_white() -> None:
    see_through = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    seen = pixels(encode(Image.fromarray(see_through), "PNG"))
    assert seen[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 127]]
    grey = Image.fromarray(np.array([[[0, 0], [9, 255]]], dtype=np.uint8), "LA")
    assert pixels(encode(grey, "PNG"))[0].tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_white(kind: str) -> None:
    paletted = Image.new("P", (2, 1))
    paletted.putpalette([10, 20, 30, 200, 100, 0])
    paletted.putdata([0, 1])
    seen = pixels(encode(paletted, kind, transparency=0))
    assert seen[0].tolist() == [[255, 255, 255], [200, 100, 0]]


def test_a_colour_key_is_white() -> None:
    keyed = Image.new("RGB", (2, 1), (1, 2, 3))
    keyed.putpixel((1, 0), (9, 9, 9))
    assert pixels(encode(keyed, "PNG", transparency=(1, 2, 3)))[0].tolist() == [[255] * 3, [9] * 3]


def test_partial_transparency_of_a_palette_is_kept() -> None:
    paletted = Image.new("P", (1, 1))
    paletted.putpalette([0, 0, 0])
    assert pixels(encode(paletted, "PNG", transparency=b"\x80"))[0, 0].tolist() == [127] * 3


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_black_black_and_white_white(kind: str) -> None:
    ink = Image.new("CMYK", (16, 8), (0, 0, 0, 255))
    ink.paste((0, 0, 0, 0), (8, 0, 16, 8))
    data = encode(ink, kind)
    if kind == "JPEG":  # Pillow writes them inverted with Adobe's marker, as Photoshop does
        assert b"Adobe" in data
    seen = pixels(data)
    assert seen[4, 2].max() < 8
    assert seen[4, 13].min() > 247


def test_ycbcr_tiff_is_converted() -> None:
    data = encode(PICTURE.convert("YCbCr"), "TIFF")
    assert difference(data, PICTURE) <= 4


def test_lab_is_converted() -> None:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    grey_red = Image.new("RGB", (2, 1), (128, 128, 128))
    grey_red.putpixel((1, 0), (200, 60, 60))
    data = encode(ImageCms.applyTransform(grey_red, transform), "TIFF")
    assert difference(data, grey_red) <= 4


def test_a_one_pixel_image_is_an_image() -> None:
    assert pixels(encode(Image.new("RGB", (1, 1), "red"))).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello, this is no image at all", "not an image that can be read; offshelf reads JPEG"),
        (b"%PDF-1.7 ...", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"\xff\xd8\xff", "the JPEG image is damaged or cut off"),
        (encode(PICTURE, "JPEG")[:40], "the JPEG image is damaged or cut off"),
        (encode(PICTURE, "PNG")[:20], "the PNG image is damaged or cut off"),
        (b"GIF89a", "the GIF image is damaged or cut off"),
        (encode(PICTURE, "PPM"), "not an image"),
        (encode(PICTURE, "ICO"), "not an image"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidImage, match=says):
        decode(data, LIMITS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_off_is_refused(kind: str) -> None:
    data = encode(picture(3, 120, 90), kind)
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        decode(data[: len(data) // 2], LIMITS)


def test_too_many_bytes_are_refused_with_the_limit() -> None:
    with pytest.raises(TooLarge, match="2000 bytes; the limit is 1000"):
        decode(bytes(2000), Limits(1000, 1000))


def bomb(side: int) -> bytes:
    """A PNG that says it has side x side pixels, with nothing in it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("side", [1001, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_before_its_pixels_are_made(side: int) -> None:
    with pytest.raises(TooLarge, match=f"{side} x {side} pixels; the limit is 1000000"):
        decode(bomb(side), LIMITS)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(FORMATS),
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
)
def test_damage_gives_an_image_or_our_error_and_nothing_else(
    kind: str, cut: int, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(encode(PICTURE, kind))
    for place, value in flips:
        data[place % len(data)] = value
    del data[min(len(data), max(10, cut)) :]
    with contextlib.suppress(InvalidImage, TooLarge):
        assert decode(bytes(data), LIMITS).mode == "RGB"


def test_many_threads_decode_alike() -> None:
    files = [encode(picture(i, 50, 50), FORMATS[i % len(FORMATS)]) for i in range(12)]
    alone = [pixels(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(pixels, files * 4))
    assert all(np.array_equal(seen, alone[i % 12]) for i, seen in enumerate(together))

"""Image files that are broken, each in its way, and odd ones that are not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Final

import numpy as np
from PIL import Image

from tests.e2e.pictures import as_jpeg, photographs


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small() -> Image.Image:
    return photographs()[0].resize((96, 64))


def bomb() -> bytes:
    """A well-formed PNG header of 50,000 x 50,000 pixels with next to no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def broken_checksum() -> bytes:
    """A PNG in whose pixels a bit was turned over, which its checksum tells."""
    png = bytearray(encoded(small(), "PNG"))
    png[png.index(b"IDAT") + 40] ^= 1
    return bytes(png)


# By what is wrong: the file, and the status and code of its error.
BAD_IMAGES: Final = {
    "empty": (b"", 422, "invalid_image"),
    "text": (b"this is not an image, it is a sentence", 422, "invalid_image"),
    "truncated jpeg": (as_jpeg(small())[:900], 422, "invalid_image"),
    "jpeg header only": (as_jpeg(small())[:20], 422, "invalid_image"),
    "truncated png": (encoded(small(), "PNG")[:400], 422, "invalid_image"),
    "truncated gif": (encoded(small(), "GIF")[:200], 422, "invalid_image"),
    "truncated webp": (encoded(small(), "WEBP")[:200], 422, "invalid_image"),
    "truncated tiff": (encoded(small(), "TIFF")[:60], 422, "invalid_image"),
    "format that is not read": (encoded(small(), "PPM"), 422, "invalid_image"),
    "pdf": (encoded(small(), "PDF"), 422, "invalid_image"),
    "zip": (b"PK\x03\x04" + bytes(60), 422, "invalid_image"),
    "decompression bomb": (bomb(), 413, "too_large"),
    "too many bytes": (as_jpeg(small()) + bytes(33 << 20), 413, "too_large"),
    "png with a wrong checksum": (broken_checksum(), 422, "invalid_image"),
    "truncated bmp": (encoded(small(), "BMP")[:900], 422, "invalid_image"),
    "truncated progressive jpeg": (
        encoded(small(), "JPEG", progressive=True)[:900],
        422,
        "invalid_image",
    ),
    "web page": (b"<!doctype html><title>404 Not Found</title>", 422, "invalid_image"),
    "float samples": (
        encoded(Image.fromarray(np.eye(64, dtype="f4")), "TIFF"),
        422,
        "invalid_image",
    ),
}

GOOD_IMAGES: Final = {
    "jpeg": as_jpeg(small()),
    "png": encoded(small(), "PNG"),
    "webp": encoded(small(), "WEBP"),
    "gif": encoded(small(), "GIF"),
    "bmp": encoded(small(), "BMP"),
    "tiff": encoded(small(), "TIFF"),
    "grey": encoded(small().convert("L"), "JPEG"),
    "one bit": encoded(small().convert("1"), "PNG"),
    "cmyk": encoded(small().convert("CMYK"), "JPEG"),
    "palette": encoded(small().convert("P"), "PNG"),
    "alpha": encoded(small().convert("RGBA"), "PNG"),
    "grey and alpha": encoded(small().convert("LA"), "PNG"),
    "16 bit": encoded(Image.fromarray(np.arange(64 * 64, dtype="u2").reshape(64, 64) * 16), "PNG"),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
    "a line": encoded(Image.new("RGB", (3000, 1), "red"), "PNG"),
}

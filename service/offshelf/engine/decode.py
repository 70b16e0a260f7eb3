"""From the bytes of an image file to RGB pixels, upright, or an error that says what is wrong.

What is done to each kind of image (`core.spec.DECODER` is the version of all this):
EXIF orientation is applied. Transparency is laid over white. Grey is repeated in three channels;
16-bit grey is scaled to 8 bits. CMYK (JPEG's are taken as inverted, as every reader does), YCbCr
and Lab are converted without colour profiles, which are ignored everywhere. Of an animation the
first frame counts. 32-bit samples are refused: nothing says what white is.
"""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

# The plugins register the formats that Image.open may then choose from.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from offshelf.errors import InvalidImage, OffshelfError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageFile import ImageFile

FORMATS: Final = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
    )
)

_MAGIC_BYTES: Final = 16  # what Pillow shows to its plugins
_PILLOW: Final = r"PIL\."
_ORIENTATION_TAG: Final = 0x0112
_PHOTOMETRIC_TAG: Final = 262
_WHITE_IS_ZERO: Final = 0
# EXIF orientation -> what turns the image upright.
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_16: Final = ("I;16", "I;16L", "I;16B", "I;16N")
_SEE_THROUGH: Final = ("LA", "La", "PA", "RGBA", "RGBa")
_PLAIN: Final = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image may be: bytes of the file, and pixels that it says it has."""

    max_bytes: int
    max_pixels: int


def decode(data: bytes, limits: Limits) -> Image.Image:
    """Decode an image file to mode RGB. Raises InvalidImage or TooLarge; safe in many threads."""
    with _within(data, limits) as image:
        try:
            image.load()
            return _upright(_rgb(image), _orientation(image))
        except OffshelfError:
            raise
        except MemoryError as error:
            raise TooLarge(f"the {image.format} image does not fit in memory") from error
        except Exception as error:  # Pillow raises nearly anything on damaged files
            raise InvalidImage(
                f"the {image.format} image is damaged or cut off: {error}"
            ) from error


def check_header(data: bytes, limits: Limits) -> None:
    """Raise what `decode` would for a file whose header cannot be read, or that is too large.

    It costs some 0.1 ms; what is wrong with the pixels is found by decoding them alone.
    """
    with _within(data, limits):
        pass


@contextmanager
def _within(data: bytes, limits: Limits) -> Iterator[ImageFile]:
    """The image with its header read."""
    if not data:
        raise InvalidImage("the image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the image has {len(data)} bytes; the limit is {limits.max_bytes}")
    _quieten()
    with _opened(data) as image:
        width, height = image.size
        if width * height > limits.max_pixels:
            raise TooLarge(
                f"the image has {width} x {height} pixels; the limit is {limits.max_pixels}"
            )
        yield image


def _quieten() -> None:
    """Keep Pillow from guarding and warning on its own, process-wide: we say what is wrong."""
    Image.MAX_IMAGE_PIXELS = None
    # Looked up first: adding a filter again and again would empty the caches of all modules.
    if not any(_is_ours(f[0], f[2], f[3]) for f in warnings.filters):
        warnings.filterwarnings("ignore", category=UserWarning, module=_PILLOW)


def _is_ours(action: str, category: object, module: object) -> bool:
    pattern = getattr(module, "pattern", None)
    return (action, category, pattern) == ("ignore", UserWarning, _PILLOW)


def _opened(data: bytes) -> ImageFile:
    """Read the header."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow raises nearly anything on damaged files
        kind = _kind_by_magic(data)
        if kind is not None:
            raise InvalidImage(
                f"the {kind} image is damaged or cut off: its header cannot be read"
            ) from error
        raise InvalidImage(
            f"not an image that can be read; offshelf reads {', '.join(FORMATS)}"
        ) from error


def _kind_by_magic(data: bytes) -> str | None:
    """The format whose first bytes these are; None for none of those that offshelf reads."""
    for kind in FORMATS:
        _, accept = Image.OPEN[kind]
        if accept is not None and accept(data[:_MAGIC_BYTES]) is True:
            return kind
    return None


def _rgb(image: Image.Image) -> Image.Image:
    """Bring any mode to RGB."""
    mode = image.mode
    if mode in _SEE_THROUGH or "transparency" in image.info:
        return _over_white(image)
    if mode in _PLAIN:
        return image.convert("RGB")
    if mode in _GREY_16:
        return _grey_16(image)
    if mode == "LAB":
        return _lab(image)
    raise InvalidImage(
        f"the {image.format} image has samples of kind {mode!r}, which have no defined white; "
        "save it with 8 or 16 bits a sample"
    )


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode in _GREY_16:  # a colour key on 16-bit grey: the key is lost, the grey is not
        return _grey_16(image)
    see_through = image.convert("RGBA")
    white = Image.new("RGBA", see_through.size, "white")
    return Image.alpha_composite(white, see_through).convert("RGB")


def _grey_16(image: Image.Image) -> Image.Image:
    """65,535 becomes 255, and what is between is rounded to the nearest."""
    wide = np.asarray(image).astype(np.uint32)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        wide = 65_535 - wide  # Pillow leaves these as they are
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")


def _lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.applyTransform(
        image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"), inPlace=False
    )
    if converted is None:
        raise InvalidImage("the Lab image cannot be converted; save it as RGB")
    return converted


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied; damaged EXIF counts as none."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001  # no pixel depends on it, and Pillow raises nearly anything
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)

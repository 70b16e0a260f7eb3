"""Where images come from: paths, folders, bytes, arrays, PIL images, files, or many of those."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from offshelf_client._errors import UnreadableImage

SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
)
# The modes that PNG can hold; other PIL images are converted as the server would convert them.
PNG_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


@runtime_checkable
class PilImage(Protocol):
    """What is used of `PIL.Image.Image`; the SDK does not import Pillow."""

    @property
    def mode(self) -> str:
        """The pixel format."""
        ...

    def convert(self, mode: str) -> PilImage:
        """The image in another mode."""
        ...

    def save(self, fp: Any, format: str, **params: Any) -> None:  # noqa: A002  # Pillow's name
        """Write the encoded image."""
        ...


ImageSource: TypeAlias = str | PathLike[str] | bytes | NDArray[Any] | PilImage | BinaryIO
Images: TypeAlias = ImageSource | Iterable[ImageSource]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image ready to be sent, or why it cannot be: exactly one of `data` and `error`."""

    index: int
    name: str | None
    data: bytes = b""
    error: str | None = None


def images_in(folder: str | PathLike[str]) -> list[Path]:
    """All image files of a folder and its sub-folders, by their suffix, sorted by path."""
    inside = Path(folder).rglob("*")
    return sorted(p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file())


def sources(images: Images) -> tuple[Iterator[ImageSource], int | None]:
    """One source after another, and how many where that is known without reading them.

    A folder gives all its images, sorted by path, with those of its sub-folders. Raises
    UnreadableImage for a single path that does not exist and TypeError for anything that
    cannot hold images.
    """
    if isinstance(images, str | PathLike):
        found = _at(Path(images))
        return iter(found), len(found)
    if _is_single(images):
        return iter([cast("ImageSource", images)]), 1
    if isinstance(images, Iterable):
        many = cast("Iterable[ImageSource]", images)
        return iter(many), len(many) if isinstance(many, Sequence | np.ndarray) else None
    raise TypeError(f"images cannot be {type(images).__name__}: {_EXPECTED}")


def nothing_in(images: Images) -> str:
    """What to say of a folder or an iterable that turned out to hold no images."""
    if not isinstance(images, str | PathLike):
        return "there are no images: the iterable is empty"
    return f"there are no images in {str(Path(images))!r}: files are known by {_KNOWN}"


def encode(index: int, source: ImageSource) -> Encoded:
    """Read one source. What cannot be read becomes an error of that image alone.

    Raises TypeError for what is no image at all.
    """
    name = _name(source)
    try:
        return Encoded(index, name, _read(source))
    except (OSError, ValueError) as error:
        return Encoded(index, name, error=f"cannot be read: {error}")


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Losslessly encode (H, W) grey or (H, W, 3) RGB pixels."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    # Each row starts with its filter type; 0 is "none".
    filtered = np.insert(rows, 0, 0, axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


_KNOWN: Final = ", ".join(sorted(SUFFIXES))
_EXPECTED: Final = (
    "a path, a folder, bytes, a uint8 array (H, W, 3) or (H, W), a PIL image, "
    "a binary file or an iterable of those"
)


def _at(path: Path) -> list[ImageSource]:
    if path.is_dir():
        return list[ImageSource](images_in(path))
    if not path.exists():
        raise UnreadableImage(f"there is no file or folder {str(path)!r}")
    return [path]


def _is_single(images: object) -> bool:
    if isinstance(images, np.ndarray):
        # (N, H, W, 3), and an array of paths, is an iterable of images.
        return images.ndim in (2, 3) and images.dtype.kind in "uifb"
    return isinstance(images, bytes | bytearray | memoryview | PilImage) or hasattr(images, "read")


def _name(source: object) -> str | None:
    if isinstance(source, str | PathLike):
        return Path(source).name
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return Path(name).name if isinstance(name, str) else None


def _read(source: object) -> bytes:
    if isinstance(source, str | PathLike):
        return Path(source).read_bytes()
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, np.ndarray):
        return png(_checked(source))
    if isinstance(source, PilImage):
        return _from_pil(source)
    if hasattr(source, "read"):
        return _from_file(source)
    raise TypeError(f"an image cannot be {type(source).__name__}: {_EXPECTED}")


def _checked(array: NDArray[Any]) -> NDArray[np.uint8]:
    grey = array.ndim == 2
    colour = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (grey or colour) or 0 in array.shape:
        raise ValueError(
            f"an array image is uint8 of shape (H, W, 3) or (H, W), not {array.dtype} {array.shape}"
        )
    return array


def _from_pil(image: PilImage) -> bytes:
    out = io.BytesIO()
    held = image if image.mode in PNG_MODES else image.convert("RGB")
    # The pixels as the caller sees them: an orientation in the EXIF data must not turn them.
    held.save(out, format="PNG", exif=b"", compress_level=1)
    return out.getvalue()


def _from_file(file: Any) -> bytes:
    data = file.read()
    if not isinstance(data, bytes):
        raise TypeError(f"an image file must be opened in binary mode; it gave {type(data)}")
    return data


def _chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

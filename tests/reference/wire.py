"""Caffe's files written by hand, byte by byte, as protocol buffers are on the wire.

Nothing here knows the reader's schema: the numbers of the fields are those of caffe.proto.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARINT: Final = 0
FIXED64: Final = 1
DELIMITED: Final = 2
FIXED32: Final = 5

Generation = Literal["V0", "V1", "new"]
Packing = Literal["packed", "chunks", "unpacked", "double", "unpacked double"]
Shape = Literal["legacy", "new"]

# What the layers of each generation have: the types of a convolution and of an inner product.
TYPES: Final = {"V0": (b"conv", b"innerproduct"), "new": (b"Convolution", b"InnerProduct")}
V1_TYPES: Final = (4, 14)


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number is its 64-bit complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def key(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def integer(number: int, value: int) -> bytes:
    return key(number, VARINT) + varint(value)


def delimited(number: int, content: bytes) -> bytes:
    return key(number, DELIMITED) + varint(len(content)) + content


def blob(values: np.ndarray, packing: Packing = "packed", shape: Shape = "legacy") -> bytes:
    """A BlobProto of these values, in their shape."""
    if shape == "new":
        dims = b"".join(varint(side) for side in values.shape)
        head = delimited(7, delimited(1, dims))
    else:
        sides = (1,) * (4 - values.ndim) + values.shape
        head = b"".join(integer(n, side) for n, side in enumerate(sides, 1))
    return head + numbers(values.ravel(), packing)


def numbers(values: np.ndarray, packing: Packing) -> bytes:
    floats = np.asarray(values, "<f4").tobytes()
    if packing == "packed":
        return delimited(5, floats)
    if packing == "chunks":
        middle = len(values) // 2 * 4
        return delimited(5, floats[:middle]) + delimited(5, floats[middle:])
    if packing == "unpacked":
        return b"".join(key(5, FIXED32) + struct.pack("<f", value) for value in values)
    if packing == "double":
        return delimited(8, np.asarray(values, "<f8").tobytes())
    return b"".join(key(8, FIXED64) + struct.pack("<d", value) for value in values)


def layer(
    name: str, blobs: Sequence[bytes], generation: Generation = "V1", *, filters: bool = False
) -> bytes:
    """A layer as it stands in a net, with its blobs and a few fields that readers must skip."""
    place = 0 if filters else 1
    noise = delimited(3, b"top")
    if generation == "new":
        content = delimited(1, name.encode()) + delimited(2, TYPES["new"][place]) + noise
        content += b"".join(delimited(7, b) for b in blobs)
        return delimited(100, content + delimited(106, integer(1, 96)))
    if generation == "V1":
        content = noise + delimited(4, name.encode()) + integer(5, V1_TYPES[place])
        content += b"".join(delimited(6, b) for b in blobs)
        return delimited(2, content + key(7, FIXED32) + struct.pack("<f", 1.0))
    inner = delimited(1, name.encode()) + delimited(2, TYPES["V0"][place]) + integer(3, 96)
    inner += b"".join(delimited(50, b) for b in blobs)
    return delimited(2, delimited(1, inner) + noise)


def net(
    state: Mapping[str, np.ndarray],
    generation: Generation = "V1",
    packing: Packing = "packed",
    shape: Shape = "legacy",
) -> bytes:
    """A NetParameter with a layer for each pair of `<name>.weight`, `<name>.bias`."""
    parts = [delimited(1, b"a net"), layer("data", [], generation), layer("relu1", [], generation)]
    for name in dict.fromkeys(key.rsplit(".", 1)[0] for key in state):
        arrays = [state[f"{name}.{part}"] for part in ("weight", "bias")]
        blobs = [blob(array, packing, shape) for array in arrays]
        parts.append(layer(name, blobs, generation, filters=arrays[0].ndim == 4))
    return b"".join(parts)

"""Reads Caffe's weights (`.caffemodel`) and mean images (`.binaryproto`) into tensors by name.

Both are protocol buffers. Of Caffe's schema only the fields that hold parameters are named here;
the parser skips all others. Three generations of it are read: `layer` with string types, `layers`
with an enumeration (V1), and `layers` around a `layer` (V0, of the first releases).

Packed numbers are declared as bytes, which is the same on the wire, so that a blob is one copy of
memory and not sixty million Python floats.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Final

from offshelf.errors import WeightsMissing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import torch

MAX_BYTES: Final = (1 << 31) - 1  # protocol buffers have no larger messages
_HDF5: Final = b"\x89HDF"
_PARTS: Final = ("weight", "bias")
_CONVOLUTIONS: Final = ("Convolution", "Deconvolution", "conv", 4, 39)  # names, and V1's numbers

# message -> field -> (number, type); `*` marks a repeated field. From Caffe's caffe.proto.
_SCHEMA: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Shape": {"dim": (1, "int64*")},
    "Blob": {
        "num": (1, "int32"), "channels": (2, "int32"), "height": (3, "int32"),
        "width": (4, "int32"), "data": (5, "bytes*"), "shape": (7, "Shape"),
        "double_data": (8, "bytes*"),
    },
    # The same blob for writers that did not pack their numbers.
    "Unpacked": {"data": (5, "float*"), "double_data": (8, "double*")},
    "V0": {"name": (1, "bytes"), "type": (2, "bytes"), "blobs": (50, "Blob*")},
    "V1": {
        "layer": (1, "V0"), "name": (4, "bytes"), "type": (5, "int32"), "blobs": (6, "Blob*"),
    },
    "Layer": {"name": (1, "bytes"), "type": (2, "bytes"), "blobs": (7, "Blob*")},
    "Net": {"layers": (2, "V1*"), "layer": (100, "Layer*")},
}  # fmt: skip


def read_caffemodel(path: Path) -> dict[str, torch.Tensor]:
    """The parameters of a trained net, float32, named `<layer>.weight`, `<layer>.bias`.

    Further blobs of a layer go by their number, `<layer>.2`. Weights of inner products are (out,
    in) and biases (out,), also where the file has them in four dimensions. Layers without blobs
    are left out. Raises WeightsMissing that says what is wrong with the file.
    """
    tensors: dict[str, torch.Tensor] = {}
    for layer in _layers(_parsed("Net", path)):
        if not layer.blobs:
            continue
        name = _text(layer.name, path)
        for place, blob in enumerate(layer.blobs):
            part = _PARTS[place] if place < len(_PARTS) else str(place)
            key = f"{name}.{part}"
            if key in tensors:
                raise WeightsMissing(f"{path} has two layers named {name!r} with weights")
            tensors[key] = _tensor(blob, f"{path}: {key}", _rank(layer, place))
    if not tensors:
        raise WeightsMissing(
            f"{path} has no layer with weights: it is not a .caffemodel of a trained net"
        )
    return tensors


def read_mean_image(path: Path) -> torch.Tensor:
    """The mean image of a `.binaryproto`, (channels, height, width) float32.

    Raises WeightsMissing that says what is wrong with the file.
    """
    image = _tensor(_parsed("Blob", path), str(path), rank=3)
    if image.ndim != 3:
        raise WeightsMissing(f"{path} is no mean image: its shape is {tuple(image.shape)}")
    return image


def _parsed(message: str, path: Path) -> Any:
    """The message that the file is."""
    from google.protobuf.message import DecodeError

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise WeightsMissing(f"{path} has {size} bytes; a Caffe file has at most {MAX_BYTES}")
    data = path.read_bytes()
    if data.startswith(_HDF5):
        raise WeightsMissing(f"{path} is an HDF5 snapshot; save the net as a binary .caffemodel")
    try:
        return _classes()[message].FromString(data)
    except DecodeError as error:
        raise WeightsMissing(
            f"{path} is damaged, cut off, or no Caffe file: it cannot be parsed"
        ) from error


def _layers(net: Any) -> Iterator[Any]:
    """The layers of all generations of the schema; a file has one of them."""
    for layer in net.layers:
        yield layer.layer if layer.HasField("layer") else layer
    yield from net.layer


def _rank(layer: Any, place: int) -> int:
    """The dimensions that a layer's blob has in torch; the old schema gives four to all."""
    if place > 0:
        return 1
    kind = layer.type.decode(errors="replace") if isinstance(layer.type, bytes) else layer.type
    return 4 if kind in _CONVOLUTIONS else 2


def _text(name: bytes, path: Path) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise WeightsMissing(f"{path} is damaged: a layer's name is {name[:40]!r}") from error


def _tensor(blob: Any, where: str, rank: int) -> torch.Tensor:
    """The numbers of a blob in its shape, without leading ones beyond `rank` dimensions."""
    import torch

    shape = _shape(blob)
    if any(side <= 0 for side in shape):
        raise WeightsMissing(f"{where} has the shape {shape}: the file is damaged or no Caffe file")
    values = _values(blob, math.prod(shape), where)
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return torch.from_numpy(values).reshape(shape)


def _shape(blob: Any) -> tuple[int, ...]:
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return blob.num, blob.channels, blob.height, blob.width


def _values(blob: Any, count: int, where: str) -> np.ndarray:
    """The `count` numbers of a blob, float32 in memory of their own."""
    import numpy as np

    for packed, kind in ((blob.data, "<f4"), (blob.double_data, "<f8")):
        chunks = list(packed)
        if sum(map(len, chunks)) == count * np.dtype(kind).itemsize:
            # Concatenating makes the one copy that is kept.
            numbers = np.concatenate([np.frombuffer(chunk, kind) for chunk in chunks])
            return numbers.astype(np.float32, copy=False)
    values = _unpacked(blob, where)
    if values.size != count:
        raise WeightsMissing(f"{where} has {values.size} numbers, not {count}: it is damaged")
    return values


def _unpacked(blob: Any, where: str) -> np.ndarray:
    """The numbers of a blob that are not packed: one by one, and so slowly."""
    import numpy as np
    from google.protobuf.message import DecodeError

    try:
        again = _classes()["Unpacked"].FromString(blob.SerializeToString())
    except DecodeError as error:
        raise WeightsMissing(f"{where} is damaged: its numbers are cut off") from error
    return np.array(again.data or again.double_data, np.float32)


@functools.cache
def _classes() -> dict[str, Any]:
    """The message classes of `_SCHEMA`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="offshelf/caffe.proto", package="offshelf.caffe", syntax="proto2"
    )
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            described.field.append(_field(name, number, kind))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    by_name = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(by_name[name]) for name in _SCHEMA}


def _field(name: str, number: int, kind: str) -> Any:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    plain = kind.removesuffix("*")
    field = FieldDescriptorProto(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
    if plain in _SCHEMA:
        field.type, field.type_name = field.TYPE_MESSAGE, f".offshelf.caffe.{plain}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{plain.upper()}")
    return field

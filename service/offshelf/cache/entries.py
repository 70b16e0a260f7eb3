"""How a feature is named and written in the content cache.

The key is a digest of all that the feature depends on. The value proves itself: it starts with a
digest of the key and of what follows, so an entry that is torn, corrupt or under a wrong key is
told from a good one, and counts as a miss.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offshelf.core.boxes import Box

PROOF_BYTES: Final = 16
_DIMENSIONS = struct.Struct("<B")
_SIDE = struct.Struct("<I")


def key_of(image_sha256: str, box: Box | None, fingerprint: str) -> bytes:
    """The key of the feature of an image, or of a box in it, under a FeatureSpec: 32 bytes."""
    where = "" if box is None else ",".join(float(side).hex() for side in box)
    return hashlib.sha256(f"{image_sha256}|{where}|{fingerprint}".encode()).digest()


def pack(key: bytes, feature: NDArray[np.float32]) -> bytes:
    """A feature as a value: proof, number of dimensions, sides, then float32 little-endian."""
    sides = b"".join(_SIDE.pack(side) for side in feature.shape)
    values = np.ascontiguousarray(feature, "<f4").tobytes()
    text = _DIMENSIONS.pack(feature.ndim) + sides + values
    return _proof(key, text) + text


def unpack(key: bytes, value: bytes) -> NDArray[np.float32] | None:
    """Inverse of `pack`; None for a value that does not prove itself."""
    proof, text = value[:PROOF_BYTES], value[PROOF_BYTES:]
    if len(proof) < PROOF_BYTES or proof != _proof(key, text):
        return None
    (dimensions,) = _DIMENSIONS.unpack_from(text)
    first = _DIMENSIONS.size + dimensions * _SIDE.size
    shape = struct.unpack_from(f"<{dimensions}I", text, _DIMENSIONS.size)
    return np.frombuffer(text, "<f4", offset=first).astype(np.float32).reshape(shape)


def _proof(key: bytes, text: bytes) -> bytes:
    return hashlib.blake2b(text, key=key, digest_size=PROOF_BYTES).digest()

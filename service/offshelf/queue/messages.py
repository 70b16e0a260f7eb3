"""The interactive request and its reply as bytes: msgpack, arrays as raw little-endian float32."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from offshelf.errors import ErrorInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image of a feature request, which has `images` of them.

    `deadline_s` is Unix time: nobody waits after it. With `boxes` (R, 4), or `windows` as
    `core.windows` reads them, a feature of each is wanted and not one of the image; `boxes_in_all`
    counts the boxes of all images of the request, and is 0 where that is not known yet.
    """

    request_id: str
    index: int
    reply_to: str
    deadline_s: float
    params: dict[str, Any]
    image: bytes
    sent_s: float
    images: int = 1
    boxes: Sequence[Sequence[float]] | None = None
    windows: str | None = None
    boxes_in_all: int = 0

    @property
    def is_boxed(self) -> bool:
        """Whether features of boxes are wanted."""
        return self.boxes is not None or self.windows is not None

    def pack(self) -> bytes:
        """As bytes for the queue."""
        packed: bytes = msgpack.packb({slot: getattr(self, slot) for slot in self.__slots__})
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> ImageRequest:
        """Inverse of `pack`."""
        return cls(**msgpack.unpackb(data))


@dataclass(frozen=True, slots=True)
class TapRow:
    """The feature of one image at one tap, or those of its boxes, and the spec that made it."""

    spec: dict[str, Any]
    fingerprint: str
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageReply:
    """What became of one image: rows by the tap names of the request, or an error.

    Where boxes were asked for, `boxes` (R, 4) are they, and a tap has as many rows.
    """

    request_id: str
    index: int
    backbone: str = ""
    weights: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, TapRow] = field(default_factory=dict)
    error: ErrorInfo | None = None
    boxes: NDArray[np.float64] | None = None

    def pack(self) -> bytes:
        """As bytes for the reply list."""
        rows = {
            tap: {
                "spec": row.spec,
                "fingerprint": row.fingerprint,
                "shape": row.values.shape,
                "data": np.ascontiguousarray(row.values, dtype="<f4")
                .reshape(-1)
                .view(np.uint8)
                .data,
            }
            for tap, row in self.rows.items()
        }
        packed: bytes = msgpack.packb(
            {
                "request_id": self.request_id,
                "index": self.index,
                "backbone": self.backbone,
                "weights": self.weights,
                "rows": rows,
                "error": asdict(self.error) if self.error else None,
                "boxes": None if self.boxes is None else self.boxes.astype("<f8").tobytes(),
            }
        )
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> ImageReply:
        """Inverse of `pack`; the arrays are views of `data`."""
        fields: dict[str, Any] = msgpack.unpackb(data)
        rows = {
            tap: TapRow(
                row["spec"],
                row["fingerprint"],
                np.frombuffer(row["data"], dtype="<f4").reshape(row["shape"]),
            )
            for tap, row in fields.pop("rows").items()
        }
        error, boxes = fields.pop("error"), fields.pop("boxes", None)
        return cls(
            **fields,
            rows=rows,
            error=ErrorInfo.from_dict(error) if error else None,
            boxes=None if boxes is None else np.frombuffer(boxes, "<f8").reshape(-1, 4),
        )

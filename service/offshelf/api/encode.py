"""Feature answers as bytes: JSON, one array as npy, all taps as npz, or an Arrow stream."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from pydantic_core import to_json

from offshelf.api.accept import choose
from offshelf.errors import NotAcceptable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offshelf.api.features import Extraction, TapRows
    from offshelf.schemas.features import Encoding

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
NPZ: Final = "application/x-npz"
ARROW: Final = "application/vnd.apache.arrow.stream"

ARROW_ADVICE: Final = "Arrow answers need pyarrow on the server: pip install 'offshelf[arrow]'"


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer ready to be sent."""

    media_type: str
    content: bytes
    headers: dict[str, str]


def negotiate(accept: str | None, taps: Sequence[str]) -> str:
    """The media type to answer with. NotAcceptable says what is missing where it is close."""
    can = [JSON, NPZ]
    can += [NPY] if len(taps) == 1 else []
    can += [ARROW] if importlib.util.find_spec("pyarrow") else []
    try:
        return choose(accept, can)
    except NotAcceptable as error:
        asked = (accept or "").lower()
        if NPY in asked and NPY not in can:
            raise NotAcceptable(f"{NPY} holds one tap; for {len(taps)} ask for {NPZ}") from error
        if ARROW in asked and ARROW not in can:
            raise NotAcceptable(ARROW_ADVICE) from error
        raise


def encode(extraction: Extraction, media_type: str, encoding: Encoding, request_id: str) -> Encoded:
    """The answer in a media type that `negotiate` gave."""
    content = _ENCODERS[media_type](extraction, encoding, request_id)
    return Encoded(media_type, content, _headers(extraction, request_id))


def describe(extraction: Extraction, request_id: str) -> dict[str, Any]:
    """The answer as `schemas.FeaturesAnswer` without the numbers, and without the boxes."""
    return {
        "request_id": request_id,
        "backbone": extraction.backbone,
        "weights": extraction.weights.model_dump(),
        "taps": {tap: _tap(tap, rows) for tap, rows in extraction.taps.items()},
        "items": [item.model_dump() for item in extraction.items],
    }


def kept_ranges(rows: Sequence[int]) -> str:
    """Ascending indices as text, runs shortened: [0, 1, 2, 5] is `0-2,5`."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in runs)


def _tap(tap: str, rows: TapRows) -> dict[str, Any]:
    return {
        "tap": tap,
        "fingerprint": rows.fingerprint,
        "spec": rows.spec,
        "shape": list(rows.rows.shape),
        "data": None,
    }


def _headers(extraction: Extraction, request_id: str) -> dict[str, str]:
    kept = [item.index for item in extraction.items if item.status == "ok"]
    weights = extraction.weights
    return {
        "Offshelf-Request-Id": request_id,
        "Offshelf-Backbone": extraction.backbone,
        "Offshelf-Weights-Digest": weights.digest,
        "Offshelf-Weights-Label": weights.label,
        "Offshelf-Weights-Random": str(weights.random).lower(),
        "Offshelf-Fingerprint": ", ".join(rows.fingerprint for rows in extraction.taps.values()),
        "Offshelf-Taps": ", ".join(extraction.taps),
        "Offshelf-Kept": kept_ranges(kept),
        "Offshelf-Errors": str(len(extraction.items) - len(kept)),
    }


def _as_json(extraction: Extraction, encoding: Encoding, request_id: str) -> bytes:
    answer = describe(extraction, request_id)
    for tap, rows in extraction.taps.items():
        little = _little_endian(rows.rows)
        answer["taps"][tap]["data"] = (
            base64.b64encode(little.data).decode() if encoding == "base64" else little.tolist()
        )
    if extraction.boxed is not None:
        answer["image_index"] = extraction.boxed.image_index.tolist()
        answer["boxes"] = extraction.boxed.boxes.tolist()
    return to_json(answer)


def _as_npy(extraction: Extraction, _encoding: Encoding, _request_id: str) -> bytes:
    (rows,) = extraction.taps.values()
    out = io.BytesIO()
    np.save(out, _little_endian(rows.rows), allow_pickle=False)
    return out.getvalue()


def _as_npz(extraction: Extraction, _encoding: Encoding, request_id: str) -> bytes:
    meta = np.frombuffer(to_json(describe(extraction, request_id)), np.uint8)
    arrays: dict[str, NDArray[Any]] = {
        tap: _little_endian(rows.rows) for tap, rows in extraction.taps.items()
    }
    if extraction.boxed is not None:
        arrays["image_index"] = extraction.boxed.image_index
        arrays["boxes"] = extraction.boxed.boxes
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays, meta=meta)
    return out.getvalue()


def _as_arrow(extraction: Extraction, _encoding: Encoding, request_id: str) -> bytes:
    """One record batch: `index` of the image, its `box` if asked, a fixed-size list for each tap.

    Maps are flattened; the field's metadata has the shape of a row and the fingerprint. The
    schema's metadata has the rest of the answer as JSON under `offshelf`.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # it has no type stubs

    boxed = extraction.boxed
    kept = [item.index for item in extraction.items if item.status == "ok"]
    columns = [pa.array(kept if boxed is None else boxed.image_index, pa.int32())]
    fields = [pa.field("index", pa.int32(), nullable=False)]
    if boxed is not None:
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(boxed.boxes.ravel()), 4))
        fields.append(pa.field("box", columns[-1].type, nullable=False))
    for tap, rows in extraction.taps.items():
        flat = _little_endian(rows.rows).reshape(len(rows.rows), -1)
        column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
        about = {"fingerprint": rows.fingerprint, "shape": to_json(rows.rows.shape[1:])}
        columns.append(column)
        fields.append(pa.field(tap, column.type, nullable=False, metadata=about))
    schema = pa.schema(fields, {"offshelf": to_json(describe(extraction, request_id))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _little_endian(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows, dtype="<f4")


_Encoder: TypeAlias = Callable[["Extraction", "Encoding", str], bytes]
_ENCODERS: Final[dict[str, _Encoder]] = {
    JSON: _as_json,
    NPY: _as_npy,
    NPZ: _as_npz,
    ARROW: _as_arrow,
}

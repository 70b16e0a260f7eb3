"""The bytes of requests and answers: multipart forms up, npz or JSON down, problems on failure."""

from __future__ import annotations

import email.utils
import io
import json
import math
import time
import uuid
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

import httpx
import numpy as np

from offshelf_client._archive import Counted
from offshelf_client._errors import (
    ApiError,
    InternalError,
    UnexpectedAnswer,
    error_codes,
    understood,
)
from offshelf_client._evaluation import LowShot
from offshelf_client._models import ExplicitSplit, Progress, ProtocolSplit, RandomSplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from offshelf_client._config import Timeout
    from offshelf_client._images import Encoded
    from offshelf_client._models import Split
    from offshelf_client._progress import Show

# Arrays of an npz answer that are of no tap.
BOX_ARRAYS: Final = ("image_index", "boxes")
NPZ: Final = "application/x-npz"
# How fast a service that is slow stores an upload.
STORED_BYTES_PER_S: Final = 4e6

Form: TypeAlias = dict[str, str | list[str]]


def _no_body() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    `body` makes httpx's arguments for it anew for every try, so that a file is sent from its
    start again; `safe` says that doing it twice is the same as doing it once.
    """

    method: str
    path: str
    body: Callable[[], dict[str, Any]] = field(default=_no_body)
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def at(collection: str, name: str, *more: str) -> str:
    """The path of one thing of a collection; the name may be anything."""
    return "/".join([f"/v1/{collection}", quote(name, safe=""), *more])


def query(**params: Any) -> Callable[[], dict[str, Any]]:
    """A body-less request's query; parameters that are None are left out."""
    return lambda: {"params": {k: v for k, v in params.items() if v is not None}}


def json_body(data: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """A JSON body."""
    return lambda: {"json": dict(data)}


def tap_names(taps: str | Sequence[str]) -> list[str]:
    """The taps as the service reads them: a comma parts two of them. ValueError for none."""
    given = [taps] if isinstance(taps, str) else taps
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError("taps is empty: name one or more, for example taps=['fc6', 'fc7:pre']")
    return list(dict.fromkeys(names))


def feature_params(
    backbone: str | None,
    taps: str | Sequence[str],
    view: str,
    pool: str | None,
    normalize: str,
    weights: str | None,
    merge: str = "mean",
) -> dict[str, Any]:
    """The fields that say which features are wanted; those left to the server are left out."""
    merged = None if merge == "mean" else merge
    given = {"backbone": backbone, "pool": pool, "weights": weights, "merge": merged}
    chosen = {name: value for name, value in given.items() if value is not None}
    return {
        "taps": tap_names(taps),
        "view": view,
        "normalize": normalize,
        **chosen,
    }


def split_body(split: Split | None) -> dict[str, Any] | None:
    """A split as JSON."""
    if isinstance(split, RandomSplit | ExplicitSplit | ProtocolSplit):
        return asdict(split)
    return None if split is None else dict(split)


def low_shot_body(wanted: LowShot | Mapping[str, Any] | None) -> dict[str, Any]:
    """The field that asks for a low-shot curve; none where none is wanted."""
    if wanted is None:
        return {}
    return {"low_shot": asdict(wanted) if isinstance(wanted, LowShot) else dict(wanted)}


def submission(path: str, body: Mapping[str, Any], key: str | None) -> Call:
    """Ask for a job. Its Idempotency-Key lets a repeat find the first job, so it is safe."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return Call("POST", path, json_body(body), headers)


def sendable(images: Sequence[Encoded]) -> list[Encoded]:
    """Those that could be read."""
    return [image for image in images if image.error is None]


def image_form(images: Sequence[Encoded], fields: Form) -> Callable[[], dict[str, Any]]:
    """Images and parameters as multipart/form-data; a list becomes a repeated field."""
    files = [
        ("images", (image.name or f"image-{image.index}", image.data, "application/octet-stream"))
        for image in images
    ]
    return lambda: {"files": files, "data": fields}


def archive_form(
    filename: str,
    file: IO[bytes],
    texts: Mapping[str, str | None],
    timeout: Timeout,
    show: Show,
) -> Callable[[], dict[str, Any]]:
    """An archive and texts as multipart/form-data, streamed; `show` is told the bytes.

    Texts that are None are left out. The answer may take as much longer than `timeout` says as
    the service may need to read the archive and to store what is in it.
    """
    total = file.seek(0, 2)
    read_s = timeout.read + total / STORED_BYTES_PER_S

    def body() -> dict[str, Any]:
        file.seek(0)
        counted = Counted(file, lambda at: show(Progress("upload", at, total, unit="bytes")))
        return {
            "files": {"archive": (filename, counted, "application/octet-stream")},
            "data": {field: text for field, text in texts.items() if text is not None},
            "timeout": httpx.Timeout(**asdict(timeout) | {"read": read_s}),
        }

    return body


def arrays_of(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Read an npz answer: what its `meta` array says, and the array of each tap."""
    meta, arrays = all_arrays_of(content)
    return meta, {tap: _float32(array) for tap, array in arrays.items() if tap not in BOX_ARRAYS}


def all_arrays_of(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read an npz answer: what its `meta` array says, and all others as they are."""
    with understood("the npz answer"):
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as npz:
                meta = json.loads(npz["meta"].tobytes())
                return meta, {name: npz[name] for name in npz.files if name != "meta"}
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(str(error)) from error


def json_of(response: httpx.Response) -> Any:
    """Read a JSON answer."""
    with understood(f"the answer to {response.request.method} {response.request.url.path}"):
        return json.loads(response.content)


def problem_of(response: httpx.Response) -> ApiError | UnexpectedAnswer:
    """The error that a response of status 400 or more stands for; its body has been read."""
    status = response.status_code
    try:
        problem = json.loads(response.content)
        code = problem["code"]
    except (ValueError, KeyError, TypeError):
        return _foreign_problem(response)
    kind = error_codes().get(code, ApiError if status < 500 else InternalError)
    return kind(
        str(problem.get("detail") or problem.get("title") or code),
        code=str(code),
        status=status,
        retryable=bool(problem.get("retryable", status in (429, 503, 504))),
        request_id=str(problem.get("request_id", "")),
        problem=problem,
        retry_after_s=retry_after_s(response.headers.get("retry-after"), time.time()),
    )


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3); None without one."""
    if header is None:
        return None
    try:
        seconds = float(header)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now_s)
    except ValueError:
        return None


def _foreign_problem(response: httpx.Response) -> ApiError | UnexpectedAnswer:
    """An error that offshelf did not write: of a proxy between, or of another server."""
    status = response.status_code
    text = f"{response.request.url} answered {status} {response.reason_phrase}".rstrip()
    if status not in (429, 502, 503, 504):
        return UnexpectedAnswer(f"{text}, not in offshelf's form")
    return ApiError(
        text,
        code="http_error",
        status=status,
        retryable=True,
        retry_after_s=retry_after_s(response.headers.get("retry-after"), time.time()),
    )


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32, copy=False)

"""A service in memory that speaks the real wire: its answers pass through the server's schemas."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from PIL import Image, UnidentifiedImageError
from python_multipart import parse_form

from offshelf.schemas import backbones, base, features, heads, jobs, transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WEIGHTS = {
    "source": "random", "label": "random:0", "digest": "d" * 64, "licence": "none", "random": True,
}  # fmt: skip
METRICS = {
    "images": 4, "accuracy": 0.75, "mean_class_accuracy": 0.7, "per_class": {"a": 0.5, "b": 0.9},
}  # fmt: skip


def head_card(head_id: str = "h1") -> dict[str, Any]:
    """A head as the server shows it."""
    return heads.Head(
        id=head_id, owner="default", name="", kind="svm", C=1.0, classes=["a", "b"],
        spec={"backbone": "alexnet", "tap": "fc7"}, fingerprint="f" * 64,
        weights=base.WeightsBody(**WEIGHTS), dataset="d1", split=None,
        train=heads.Metrics(**METRICS), test=heads.Metrics(**METRICS), created_s=1.0,
        versions={"scikit-learn": "1"},
    ).model_dump(mode="json")  # fmt: skip


def transform_card(transform_id: str = "w1") -> dict[str, Any]:
    """A transform as the server shows it."""
    return transforms.Transform(
        id=transform_id, owner="default", name="", step=f"whiten:{transform_id}",
        feature_set="f1", tap="fc7", fingerprint="f" * 64, inputs=8, dimensions=3, epsilon=0.1,
        spec={"backbone": "alexnet", "tap": "fc7", "normalisation": "l2"}, samples=20,
        explained=0.75, created_s=1.0, versions={},
    ).model_dump(mode="json")  # fmt: skip


def job_body(job_id: str = "j1", state: str = "queued", **more: Any) -> dict[str, Any]:
    """A job as the server shows it."""
    fields: dict[str, Any] = {
        "kind": "head", "stage": "", "created_s": 1.0, "started_s": None, "finished_s": None,
        "total": 0, "done": 0, "failed": 0, "attempts": 0, "params": {}, "error": None,
        "result": {}, "links": {},
    }  # fmt: skip
    return jobs.JobBody(id=job_id, state=state, **{**fields, **more}).model_dump(mode="json")


def backbone_body(name: str = "alexnet", *, present: bool = False) -> dict[str, Any]:
    """A backbone as the server shows it."""
    tap = backbones.TapBody(
        name="fc7", shape=[4096], stride=None, receptive_field=None, pre=True, kind="vector"
    )
    preprocessing = {"resize": 256, "crop": 224, "interpolation": "bilinear"}
    variants = [
        backbones.VariantBody(
            name=variant, top1=56.5, licence="free", preprocessing=preprocessing, present=present
        )
        for variant in ("IMAGENET1K_V1", "IMAGENET1K_V2")
    ]
    return backbones.BackboneBody(
        name=name, taps=[tap], aliases={"penultimate": "fc7"}, preprocessing=preprocessing,
        classes=1000, paper="", weights={"present": present}, default=True, variants=variants,
        nbytes=244_403_360,
    ).model_dump(mode="json")  # fmt: skip


def problem(status: int, code: str, *, retryable: bool = False, **more: Any) -> httpx.Response:
    """An error as the server tells it."""
    headers = {"Retry-After": str(more.pop("retry_after"))} if "retry_after" in more else {}
    body = base.Problem(
        title="Error", status=status, detail=f"told {code}", code=code, retryable=retryable,
        request_id="r1", **more,
    )  # fmt: skip
    headers["Content-Type"] = "application/problem+json"
    return httpx.Response(status, content=body.model_dump_json(), headers=headers)


def read_form(request: httpx.Request) -> tuple[list[tuple[str, str, bytes]], dict[str, list[str]]]:
    """The files (field, name, bytes) and fields of a multipart request."""
    files: list[tuple[str, str, bytes]] = []
    fields: dict[str, list[str]] = {}

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        name = file.file_name.decode()
        files.append((file.field_name.decode(), name, file.file_object.read()))
        file.close()

    def on_field(found: Any) -> None:
        fields.setdefault(found.field_name.decode(), []).append(found.value.decode())

    headers = {"Content-Type": request.headers["content-type"].encode()}
    parse_form(headers, io.BytesIO(request.content), on_field, on_file)
    return files, fields


def feature_of(image: bytes) -> NDArray[np.float32]:
    """What this service makes of an image: its mean colour, and its width and height."""
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("RGB"), dtype=np.float64)
    height, width = pixels.shape[:2]
    return np.array([*pixels.mean(axis=(0, 1)), width, height], np.float32)


@dataclass
class FakeService:
    """`replies` are given out first, one a request; then the routes answer."""

    replies: list[httpx.Response | Exception] = field(default_factory=list)
    routes: dict[tuple[str, str], Callable[[httpx.Request], httpx.Response]] = field(
        default_factory=dict
    )
    requests: list[httpx.Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        with self.lock:
            self.requests.append(request)
            reply = self.replies.pop(0) if self.replies else None
        if isinstance(reply, Exception):
            raise reply
        if reply is not None:
            return reply
        route = self.routes.get((request.method, request.url.path))
        if route is not None:
            return route(request)
        if request.url.path == "/v1/features":
            return features_answer(request)
        return problem(404, "not_found")

    @property
    def transport(self) -> httpx.MockTransport:
        """What to give to a client."""
        return httpx.MockTransport(self)

    def forms(self) -> list[tuple[list[tuple[str, str, bytes]], dict[str, list[str]]]]:
        """The multipart forms received."""
        return [read_form(request) for request in self.requests if request.method == "POST"]


def features_answer(request: httpx.Request) -> httpx.Response:
    """The npz answer of `POST /v1/features`."""
    assert request.headers["accept"] == "application/x-npz"
    files, fields = read_form(request)
    taps = fields["taps"]
    items: list[features.Item] = []
    rows: list[NDArray[np.float32]] = []
    for index, (_, name, data) in enumerate(files):
        try:
            rows.append(feature_of(data))
        except UnidentifiedImageError:
            error = base.ErrorBody(code="invalid_image", message="not an image")
            items.append(features.Item(index=index, name=name, status="error", error=error))
        else:
            row = len(rows) - 1
            items.append(features.Item(index=index, name=name, status="ok", row=row))
    if not rows:
        told = [item.model_dump(mode="json") for item in items]
        return problem(422, "invalid_image", items=told)
    arrays = {tap: np.stack(rows) + number for number, tap in enumerate(taps)}
    answer = features.FeaturesAnswer(
        request_id="r1",
        backbone=fields.get("backbone", ["alexnet"])[0],
        weights=base.WeightsBody(**WEIGHTS),
        taps={
            tap: features.TapAnswer(
                tap=tap, fingerprint=f"print-{tap}", spec={"tap": tap}, shape=list(array.shape)
            )
            for tap, array in arrays.items()
        },
        items=items,
    )
    out = io.BytesIO()
    meta = np.frombuffer(answer.model_dump_json().encode(), np.uint8)
    np.savez(out, allow_pickle=False, **arrays, meta=meta)
    return httpx.Response(
        200, content=out.getvalue(), headers={"Content-Type": "application/x-npz"}
    )


def sse(*events: tuple[str, dict[str, Any]], beats: int = 0) -> httpx.Response:
    """A stream of events as the server writes it."""
    text = ": keep-alive\n\n" * beats
    text += "".join(f"id: {event_id}\ndata: {json.dumps(data)}\n\n" for event_id, data in events)
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})

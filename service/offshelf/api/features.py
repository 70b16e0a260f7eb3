"""The use case behind features and predictions: ask the workers, gather rows, tell every image."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from starlette.concurrency import run_in_threadpool

from offshelf.api.errors import ClientGone, NothingKept
from offshelf.errors import DependencyError, ErrorInfo, WorkerError
from offshelf.queue.messages import ImageRequest
from offshelf.schemas.base import ErrorBody, WeightsBody
from offshelf.schemas.features import BoxedItem, FeatureParams, Item

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from numpy.typing import NDArray
    from starlette.types import Receive

    from offshelf.api.boxes import Boxes
    from offshelf.api.images import Image
    from offshelf.api.services import Services
    from offshelf.queue.messages import ImageReply

# Answers above this are put together in a thread, so that the event loop goes on serving others.
INLINE_BYTES: Final = 1 << 20

_PARAMS: Final = frozenset(FeatureParams.model_fields)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TapRows:
    """What one tap gave: row r is (*shape) of the r-th good image, or of a box of one."""

    spec: dict[str, Any]
    fingerprint: str
    rows: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BoxRows:
    """Of which image of the request (R,) each row is, and of which box (R, 4) in pixels."""

    image_index: NDArray[np.int64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answers of all images of a request, and which network gave them.

    `boxed` says whose the rows are where features of boxes were asked for.
    """

    backbone: str
    weights: WeightsBody
    taps: dict[str, TapRows]
    items: list[Item]
    boxed: BoxRows | None = None


async def extract(
    services: Services,
    images: Sequence[Image],
    params: FeatureParams,
    request_id: str,
    deadline_s: float,
    boxes: Boxes | None = None,
) -> Extraction:
    """Ask for the features of every image, or of its boxes.

    `deadline_s` is how long anybody may wait for them.
    An image that fails has an item that says why. Raises NothingKept when all of them fail, and
    what `Interactive.ask` raises.
    """
    replies = await _ask(services, images, params, request_id, deadline_s, boxes)
    errors = {image.index: image.error for image in images if image.error}
    errors |= {index: reply.error for index, reply in replies.items() if reply.error}
    items = _boxed_items(images, errors, replies) if boxes else _items(images, errors)
    good = [replies[item.index] for item in items if item.status == "ok"]
    if not good:
        raise NothingKept([errors[item.index] for item in items], items)
    _check_one_network(good, params.taps)
    return Extraction(
        good[0].backbone,
        WeightsBody.model_validate(good[0].weights),
        await _stacked(good, params.taps),
        items,
        _box_rows(good) if boxes else None,
    )


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, but cancel it and raise ClientGone once the client has gone.

    The request's body must have been read: what comes next can only be the disconnect.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ask(
    services: Services,
    images: Sequence[Image],
    params: FeatureParams,
    request_id: str,
    deadline_s: float,
    boxes: Boxes | None,
) -> dict[int, ImageReply]:
    """The replies by the index of the image; images with an error are not sent."""
    now_s = services.now_s()
    # Clients may choose request ids, even the same one twice: the queue needs one of its own.
    ask_id = f"{request_id}.{services.new_id()}"
    wanted = params.model_dump(mode="json", include=set(_PARAMS))
    good = [image for image in images if image.error is None]
    requests = [
        ImageRequest(
            request_id=ask_id,
            index=image.index,
            reply_to=services.interactive.inbox,
            deadline_s=now_s + deadline_s,
            params=wanted,
            image=image.data,
            sent_s=now_s,
            images=len(good),
            **(boxes.fields(image.index, good) if boxes else {}),
        )
        for image in good
    ]
    if not requests:
        return {}
    replies = await services.interactive.ask(requests)
    if [reply.index for reply in replies] != [request.index for request in requests]:
        raise WorkerError(f"{len(requests)} images were asked, the replies are of others")
    return {reply.index: reply for reply in replies}


def _items(images: Sequence[Image], errors: dict[int, ErrorInfo]) -> list[Item]:
    items: list[Item] = []
    row = 0
    for image in images:
        if error := errors.get(image.index):
            items.append(_failed(image, error))
        else:
            items.append(Item(index=image.index, name=image.name, status="ok", row=row))
            row += 1
    return items


def _boxed_items(
    images: Sequence[Image], errors: dict[int, ErrorInfo], replies: dict[int, ImageReply]
) -> list[Item]:
    items: list[Item] = []
    row = 0
    for image in images:
        told: dict[str, Any] = {"index": image.index, "name": image.name}
        if error := errors.get(image.index):
            items.append(BoxedItem(**told, status="error", error=ErrorBody.of(error)))
        else:
            rows = len(_boxes_of(replies[image.index]))
            items.append(BoxedItem(**told, status="ok", row=row, rows=rows))
            row += rows
    return items


def _box_rows(replies: Sequence[ImageReply]) -> BoxRows:
    boxes = [_boxes_of(reply) for reply in replies]
    index = np.repeat([reply.index for reply in replies], [len(some) for some in boxes])
    return BoxRows(index.astype(np.int64), np.concatenate(boxes))


def _boxes_of(reply: ImageReply) -> NDArray[np.float64]:
    if reply.boxes is None or any(len(r.values) != len(reply.boxes) for r in reply.rows.values()):
        raise WorkerError(f"image {reply.index} was answered without its boxes")
    return reply.boxes


def _failed(image: Image, error: ErrorInfo) -> Item:
    return Item(index=image.index, name=image.name, status="error", error=ErrorBody.of(error))


def _check_one_network(replies: Sequence[ImageReply], taps: Sequence[str]) -> None:
    """Rows of two networks never share an array, as might happen while weights are changed."""
    for reply in replies:
        missing = [tap for tap in taps if tap not in reply.rows]
        if missing:
            raise WorkerError(f"image {reply.index} was answered without the taps {missing}")
    seen = {tuple(reply.rows[tap].fingerprint for tap in taps) for reply in replies}
    if len(seen) > 1:
        mixed = "the workers hold different weights for this backbone; try again"
        raise DependencyError(mixed, public=mixed)


async def _stacked(replies: Sequence[ImageReply], taps: Sequence[str]) -> dict[str, TapRows]:
    """The rows of all replies by tap."""

    def stack() -> dict[str, TapRows]:
        return {tap: _stack(replies, tap) for tap in taps}

    size = sum(row.values.nbytes for reply in replies for row in reply.rows.values())
    return await run_in_threadpool(stack) if size > INLINE_BYTES else stack()


def _stack(replies: Sequence[ImageReply], tap: str) -> TapRows:
    first = replies[0].rows[tap]
    values = [reply.rows[tap].values for reply in replies]
    rows = np.stack(values) if replies[0].boxes is None else np.concatenate(values)
    return TapRows(first.spec, first.fingerprint, rows)

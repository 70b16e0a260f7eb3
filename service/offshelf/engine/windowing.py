"""Many boxes of one image, decoded once: each cut out for itself, or all pooled from its maps."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from offshelf.engine.batcher import Item
from offshelf.engine.interface import Regions
from offshelf.engine.regions import cut
from offshelf.engine.views import view
from offshelf.errors import InvalidImage, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from offshelf.core.batching import Lane
    from offshelf.engine.extractor import Plan
    from offshelf.engine.interface import Features

# Boxes that go to the device together: a batch or two, so that it starts while others are cut.
PARTS: Final = 32
# Of one image. Their cuts wait for the device in memory: at 224 pixels 150 KB each.
MAX_BOXES: Final = 4096


class Windows(Protocol):
    """Says where the boxes of an image are, once its size is known."""

    def windows(self, width: int, height: int) -> NDArray[np.floating] | NDArray[np.int64]:
        """Boxes (R, 4): left, top, right, bottom in pixels."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Boxes (R, 4) that somebody named."""

    boxes: NDArray[np.float64]

    def windows(self, width: int, height: int) -> NDArray[np.float64]:
        """As they are; InvalidImage for one that lies outside the image."""
        low, high = self.boxes[:, :2], self.boxes[:, 2:]
        outside = (low >= [width, height]).any(axis=1) | (high <= 0).any(axis=1)
        if outside.any():
            box = self.boxes[outside.argmax()].tolist()
            raise InvalidImage(f"the box {box} lies outside the image of {width} x {height} pixels")
        return self.boxes


@dataclass(frozen=True, slots=True, eq=False)
class Boxed:
    """The features of an image's boxes (R, ...) by requested tap, the boxes, and its size."""

    boxes: NDArray[np.float64]
    width: int
    height: int
    features: dict[str, Features]


def boxes_of(image: Image.Image, windows: Windows) -> NDArray[np.float64]:
    """The boxes of an image; TooLarge for more than may be."""
    boxes = np.asarray(windows.windows(*image.size), np.float64)
    if not len(boxes):
        raise InvalidImage("there is no box of the image")
    if len(boxes) > MAX_BOXES:
        raise TooLarge(
            f"{len(boxes)} windows of an image of {image.width} x {image.height} pixels; the limit "
            f"is {MAX_BOXES}: take fewer scales, less overlap or a larger stride"
        )
    return boxes


def items_of(
    image: Image.Image,
    boxes: NDArray[np.float64],
    plan: Plan,
    lane: Lane,
    deadline_s: float | None = None,
) -> Iterator[Item]:
    """What the device runs for the boxes of a decoded image, piece by piece as it is cut."""
    pre = plan.resident.card.preprocessing
    outputs = tuple(sorted(set(plan.outputs.values()), key=str))
    if plan.view.is_regional:
        inputs = view(image, plan.view, pre)
        regions = Regions(boxes, image.width, image.height)
        yield Item(inputs, plan.resident, outputs, lane, deadline_s, plan.deliver, regions=regions)
        return
    for first in range(0, len(boxes), PARTS):
        some = boxes[first : first + PARTS].tolist()
        parts = tuple(view(cut(image, tuple(box)), plan.view, pre) for box in some)
        yield Item((), plan.resident, outputs, lane, deadline_s, plan.deliver, parts=parts)


def gathered(
    image: Image.Image, boxes: NDArray[np.float64], items: Sequence[Item], whole: Future[Boxed]
) -> None:
    """End `whole` with what all pieces came to, or as the first one that fails.

    What is left of an image that failed, or that nobody waits for any more, is dropped.
    """
    waiting = [len(items)]
    lock = threading.Lock()

    def drop(_: Future[Any]) -> None:
        for item in items:
            item.future.cancel()

    def ended(piece: Future[dict[str, Features]]) -> None:
        if piece.cancelled():
            return
        error = piece.exception()
        with lock:
            waiting[0] -= 1
            last = waiting[0] == 0
        with suppress(InvalidStateError):  # it has ended before
            if error is not None:
                whole.set_exception(error)
            elif last:
                whole.set_result(_boxed(image, boxes, [item.future.result() for item in items]))

    whole.add_done_callback(drop)
    for item in items:
        item.future.add_done_callback(ended)


def _boxed(
    image: Image.Image, boxes: NDArray[np.float64], pieces: Sequence[dict[str, Features]]
) -> Boxed:
    features = {tap: np.concatenate([piece[tap] for piece in pieces]) for tap in pieces[0]}
    return Boxed(boxes, image.width, image.height, features)

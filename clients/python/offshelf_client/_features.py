"""The answer to a feature request, put together from the answers to its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from offshelf_client._errors import UnexpectedAnswer, understood
from offshelf_client._models import Item, ItemError, Weights, item_of, weights_of
from offshelf_client._wire import BOX_ARRAYS, all_arrays_of

if TYPE_CHECKING:
    from collections.abc import ItemsView

    from numpy.typing import NDArray

    from offshelf_client._errors import ApiError
    from offshelf_client._images import Encoded

# What can be wrong with a single image; all other errors are the whole request's.
PER_IMAGE: Final = frozenset(
    {"invalid_image", "too_large", "worker_error", "deadline_exceeded", "unreadable_image"}
)


@dataclass(frozen=True, slots=True)
class Part:
    """What became of some of the images. `meta` is None when none of them could be sent.

    `boxed` are the index of the image (R,) and the box (R, 4) of each row, if that was asked for.
    """

    items: tuple[Item, ...]
    arrays: dict[str, NDArray[np.float32]]
    meta: dict[str, Any] | None
    boxed: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None


class Items(tuple[Item, ...]):
    """What became of each image of the call, in order.

    A mapping has a method of this name, so calling it gives what that gives: (tap, array) pairs.
    """

    arrays: Mapping[str, NDArray[np.float32]]

    def __call__(self) -> ItemsView[str, NDArray[np.float32]]:
        """The (tap, array) pairs."""
        return self.arrays.items()


class Features(Mapping[str, "NDArray[np.float32]"]):
    """Tap -> float32 array, (N, D) for vectors and (N, C, H, W) for maps, as it was asked for.

    N counts the images that have rows: row r belongs to image `kept[r]` of the call. Example:
    `X, y = features["fc7"], labels[features.kept]`.

    `fingerprints` and `specs` are by tap, `items` has one entry for every image of the call in
    order, `backbone` and `weights` say what answered (`weights.random`: nothing was learned).

    Of boxes or windows there is a row each, of all images one after the other: `image_index` (R,)
    is the image of the call, `boxes` (R, 4) the box in pixels of it. Both are None otherwise.
    """

    items: Items  # callable as the method of a mapping, and a sequence besides

    def __init__(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        *,
        items: Sequence[Item],
        fingerprints: Mapping[str, str],
        specs: Mapping[str, dict[str, Any]],
        backbone: str,
        weights: Weights | None,
        image_index: NDArray[np.int64] | None = None,
        boxes: NDArray[np.float64] | None = None,
    ) -> None:
        self._arrays = dict(arrays)
        self.items = Items(items)
        self.items.arrays = self._arrays
        self.fingerprints = dict(fingerprints)
        self.specs = dict(specs)
        self.backbone = backbone
        self.weights = weights
        self.image_index = image_index
        self.boxes = boxes
        good = [item.index for item in items if item.status == "ok"]
        self.kept: NDArray[np.intp] = np.array(good, dtype=np.intp)

    def __getitem__(self, tap: str) -> NDArray[np.float32]:
        return self._arrays[tap]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{tap}: {array.shape}" for tap, array in self._arrays.items())
        return f"Features({self.backbone}; {shapes}; {len(self.kept)} of {len(self.items)} images)"


def unreadable(image: Encoded) -> Item:
    """The item of an image that could not be sent."""
    error = ItemError("unreadable_image", image.error or "cannot be read")
    return Item(image.index, image.name, "error", None, error)


def unsent(images: Sequence[Encoded]) -> Part:
    """The part of images none of which could be read."""
    return Part(tuple(unreadable(image) for image in images), {}, None)


def all_failed(
    images: Sequence[Encoded], sent: Sequence[Encoded], error: ApiError
) -> tuple[Item, ...] | None:
    """The items of a request that failed because each of its images did; None for other errors."""
    told = error.problem.get("items")
    if not isinstance(told, list) or len(told) != len(sent):
        return None
    items = _in_place(images, sent, told)
    blamed = {item.error.code for item in items if item.error}
    return items if blamed <= PER_IMAGE else None


def part_of(images: Sequence[Encoded], sent: Sequence[Encoded], content: bytes) -> Part:
    """Read the npz answer to `sent`, and put the answers among all `images` in their order."""
    meta, arrays = all_arrays_of(content)
    told = [arrays.pop(name) for name in BOX_ARRAYS if name in arrays]
    with understood("the items of the answer"):
        items = _in_place(images, sent, meta["items"])
        boxed = _boxed(told, sent) if told else None
    taps = {tap: array.astype(np.float32, copy=False) for tap, array in arrays.items()}
    _check_rows(taps, items)
    return Part(items, taps, meta, boxed)


def joined(parts: Sequence[Part], taps: Sequence[str], boxed: bool = False) -> Features:
    """Stack the parts in order, which are of boxes if `boxed`.

    Raises UnexpectedAnswer where they are of different networks.
    """
    metas = [part.meta for part in parts if part.meta is not None]
    first = next((meta for meta in metas if meta.get("taps")), metas[0] if metas else {})
    with understood("the answer's description"):
        told: dict[str, Any] = first.get("taps", {})
        fingerprints = {tap: told[tap]["fingerprint"] for tap in told}
        _check_same(metas, fingerprints)
        return Features(
            {tap: _stack(parts, tap) for tap in taps},
            items=_renumbered(parts),
            fingerprints=fingerprints,
            specs={tap: told[tap]["spec"] for tap in told},
            backbone=first.get("backbone", ""),
            weights=weights_of(first["weights"]) if first.get("weights") else None,
            image_index=_joined_boxes(parts, 0, np.zeros(0, np.int64)) if boxed else None,
            boxes=_joined_boxes(parts, 1, np.zeros((0, 4))) if boxed else None,
        )


def _boxed(
    told: Sequence[NDArray[Any]], sent: Sequence[Encoded]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The image of the call, and the box, of each row of an answer to `sent`."""
    index, boxes = told
    whole = np.array([image.index for image in sent], np.int64)
    return whole[index], boxes.astype(np.float64, copy=False).reshape(len(index), 4)


def _joined_boxes(parts: Sequence[Part], which: int, empty: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([empty, *(part.boxed[which] for part in parts if part.boxed)])


def _stack(parts: Sequence[Part], tap: str) -> NDArray[np.float32]:
    arrays = [part.arrays[tap] for part in parts if tap in part.arrays]
    filled = [array for array in arrays if len(array)]
    if len(filled) > 1:
        return np.concatenate(filled)
    return next(iter(filled or arrays), np.zeros((0, 0), np.float32))


def _renumbered(parts: Sequence[Part]) -> list[Item]:
    """The items of all parts with `row` counted through the stacked arrays."""
    items: list[Item] = []
    row = 0
    for item in (item for part in parts for item in part.items):
        ok = item.status == "ok"
        at = row if ok else None
        items.append(Item(item.index, item.name, item.status, at, item.error, item.rows))
        row += _rows(item) if ok else 0
    return items


def _in_place(
    images: Sequence[Encoded], sent: Sequence[Encoded], told: Sequence[Any]
) -> tuple[Item, ...]:
    """An item for each of `images`, made of what was told of those that were sent."""
    if len(told) != len(sent):
        raise ValueError(f"{len(sent)} images were sent, {len(told)} were answered")
    answers = {
        image.index: item_of(item, image.index, image.name, item.get("row"))
        for image, item in zip(sent, sorted(told, key=lambda item: item["index"]), strict=True)
    }
    return tuple(answers.get(image.index) or unreadable(image) for image in images)


def _check_rows(arrays: Mapping[str, NDArray[np.float32]], items: Sequence[Item]) -> None:
    good = [item for item in items if item.status == "ok"]
    rows = [item.row for item in good]
    ends = list(accumulate(map(_rows, good), initial=0))
    # Rows are stacked part by part, so they must stand in the order of the images.
    if rows != ends[:-1]:
        raise UnexpectedAnswer(f"the rows of the answer are not those of its items: {rows}")
    for tap, array in arrays.items():
        if len(array) != ends[-1]:
            raise UnexpectedAnswer(f"tap {tap} has {len(array)} rows for {len(rows)} good images")


def _rows(item: Item) -> int:
    """How many rows a good image has."""
    return 1 if item.rows is None else item.rows


def _check_same(metas: Sequence[Mapping[str, Any]], fingerprints: Mapping[str, str]) -> None:
    for meta in metas:
        for tap, answer in meta.get("taps", {}).items():
            if answer["fingerprint"] != fingerprints.get(tap):
                raise UnexpectedAnswer(
                    f"tap {tap} was answered under two fingerprints in one call: the service's "
                    "weights were changed meanwhile; make the call again"
                )

"""The answer to a prediction request, put together from the answers to its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from offshelf_client._errors import ImagesFailed, understood
from offshelf_client._features import unreadable
from offshelf_client._models import Item, Prediction, item_of, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf_client._images import Encoded


@dataclass(frozen=True, slots=True)
class Predicted:
    """What became of some of the images, and what the head says of the good ones."""

    items: tuple[Item, ...]
    predictions: tuple[Prediction, ...]


def predicted(images: Sequence[Encoded], sent: Sequence[Encoded], answer: Any) -> Predicted:
    """Read the answer to `sent`, and put it among all `images` in their order."""
    items = {image.index: unreadable(image) for image in images if image.error}
    predictions = []
    with understood("the predictions"):
        told = sorted(answer["predictions"], key=lambda data: data["index"])
        for image, data in zip(sent, told, strict=True):
            item = item_of(data, image.index, image.name, None)
            items[image.index] = item
            if item.status == "ok":
                predictions.append(read(Prediction, data, index=image.index, name=image.name))
    return Predicted(tuple(items[index] for index in sorted(items)), tuple(predictions))


def predictions_of(
    parts: Sequence[Predicted], on_error: Literal["raise", "skip"]
) -> list[Prediction]:
    """All predictions in order. Raises ImagesFailed where images failed and that was asked."""
    items = [item for part in parts for item in part.items]
    failed = [item for item in items if item.status == "error"]
    if failed and on_error == "raise":
        raise ImagesFailed(failed, len(items))
    return [prediction for part in parts for prediction in part.predictions]

"""The fields of a feature request that ask for boxes or windows of its images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from offshelf_client._images import Encoded
    from offshelf_client._wire import Form

    Boxes: TypeAlias = Sequence[Sequence[Sequence[float]] | NDArray[np.floating | np.integer]]

# Images of windows in one request: each costs what hundreds of images do.
BATCH_BOXED: Final = 2


def check_boxes(boxes: Boxes | None, windows: str | None) -> None:
    """ValueError for both at once."""
    if boxes is not None and windows is not None:
        raise ValueError("give boxes or windows, not both")


def box_fields(boxes: Boxes | None, windows: str | None, images: Sequence[Encoded]) -> Form:
    """The form's fields for some images of a call; ValueError for an image without its list."""
    if windows is not None:
        return {"windows": windows}
    if boxes is None:
        return {}
    if images and images[-1].index >= len(boxes):
        raise ValueError(f"there are boxes for {len(boxes)} images, and there are more images")
    listed = [[[float(x) for x in box] for box in boxes[image.index]] for image in images]
    return {"boxes": json.dumps(listed)}


def check_count(boxes: Boxes | None, images: int) -> None:
    """ValueError unless every list of boxes had its image."""
    if boxes is not None and len(boxes) != images:
        raise ValueError(f"there are boxes for {len(boxes)} images, and {images} images")

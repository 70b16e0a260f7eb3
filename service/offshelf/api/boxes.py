"""Boxes and windows of a feature request: which image has which, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.view import View
from offshelf.core.windows import parse_windows
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.api.images import Image
    from offshelf.schemas.features import FeatureOptions

# How many windows an image has is known once it is decoded. Until then it is taken to be so large.
USUAL_SIZE: Final = (500, 375)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes by the index of the image, or the text of windows; one of the two."""

    given: Sequence[Sequence[Sequence[float]]] | None
    windows: str | None

    @classmethod
    def of(cls, options: FeatureOptions, images: Sequence[Image]) -> Boxes | None:
        """Those that are asked for; InvalidParameter unless every image has its list."""
        if options.boxes is None and options.windows is None:
            return None
        if options.boxes is not None and len(options.boxes) != len(images):
            raise InvalidParameter(
                f"there are boxes for {len(options.boxes)} images, and {len(images)} images: give "
                "a list of boxes for every image, in order"
            )
        return cls(options.boxes, options.windows)

    def fields(self, index: int, good: Sequence[Image]) -> dict[str, Any]:
        """What an `ImageRequest` says of them, of the image of that index among `good` ones."""
        if self.given is None:
            return {"windows": self.windows}
        in_all = sum(len(self.given[image.index]) for image in good)
        return {"boxes": self.given[index], "boxes_in_all": in_all}

    def inputs(self, images: int, view: str) -> int:
        """About how many network inputs they are, as images are counted.

        Under a view of maps the network sees each image once, however many boxes there are.
        """
        if View.parse(view).is_regional:
            return images
        if self.given is not None:
            return max(images, sum(map(len, self.given)))
        return images * len(parse_windows(self.windows or "").windows(*USUAL_SIZE))

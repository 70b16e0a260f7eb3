"""Content negotiation: which of the media types on offer an Accept header prefers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offshelf.errors import NotAcceptable

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class _Range:
    """One media range of an Accept header."""

    kind: str
    subtype: str
    quality: float

    def specificity(self, offer: str) -> int:
        """2 for the type itself, 1 for `application/*`, 0 for `*/*`, -1 where it is another."""
        kind, _, subtype = offer.partition("/")
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if (self.kind, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.kind, self.subtype) == ("*", "*") else -1


def choose(header: str | None, offers: Sequence[str]) -> str:
    """The offer with the highest q value, the earlier one of equals; NotAcceptable when none.

    As in RFC 9110: the most specific range that covers an offer gives its q, and 0 forbids it.
    """
    if header is None or not header.strip():
        return offers[0]
    ranges = [_parse(part) for part in header.split(",") if part.strip()]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(f"cannot answer with {header[:200]!r}; there are: {', '.join(offers)}")
    return best


def _quality(offer: str, ranges: Sequence[_Range]) -> float:
    matching = [found for found in ranges if found.specificity(offer) >= 0]
    if not matching:
        return 0.0
    return max(matching, key=lambda found: found.specificity(offer)).quality


def _parse(part: str) -> _Range:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    kind, _, subtype = media.lower().partition("/")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            quality = _number(value.strip())
    return _Range(kind, subtype or "*", quality)


def _number(text: str) -> float:
    """A q value; what is none counts as 0, so that a broken range asks for nothing."""
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0

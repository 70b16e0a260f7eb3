"""Range requests (RFC 9110, section 14): which bytes of a file a request asks for."""

from __future__ import annotations

import re
from typing import Final

from offshelf.errors import RangeNotSatisfiable

_SINGLE: Final = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)


def wanted_range(given: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop (beyond the last byte) of the one range asked for; None for the whole.

    Several ranges, other units and what is no range at all are answered with the whole, as the
    RFC allows. Raises RangeNotSatisfiable.
    """
    found = _SINGLE.fullmatch(given or "")
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), size if not last else min(int(last) + 1, size)
        if last and int(last) < start:
            return None  # no range by the grammar's rules
    if start >= size or start >= stop:
        raise RangeNotSatisfiable(f"{given} is beyond the file, which has {size} bytes")
    return start, stop


def still_valid(if_range: str | None, etag: str) -> bool:
    """Whether a range may be answered: there is no If-Range, or it names these very bytes.

    A weak validator or a date never does (section 13.1.5: the comparison is the strong one).
    """
    return if_range is None or if_range.strip() == etag


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether If-None-Match names these bytes (section 13.1.2: the comparison is the weak one)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags

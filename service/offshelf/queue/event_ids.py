"""What the id of an event may be, free of Redis so that the API can refuse a bad one early."""

from __future__ import annotations

import re
from typing import Final

from offshelf.errors import InvalidParameter

_EVENT_ID: Final = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")
# The two parts of an id are unsigned numbers of 64 bits.
_LARGEST: Final = 2**64 - 1


def check_event_id(text: str) -> str:
    """The id itself; InvalidParameter unless it is one (`0`, `1700000000000-3`)."""
    if not _EVENT_ID.fullmatch(text) or any(int(part) > _LARGEST for part in text.split("-")):
        raise InvalidParameter(f"{text[:64]!r} is not the id of an event")
    return text

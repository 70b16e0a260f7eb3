"""Cursor pages over sorted names, and the ids that stand in paths."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Path, Query

from offshelf.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LIMIT: Final = 500
# Ids become parts of store keys and Redis keys.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")]
After = Annotated[
    str | None, Query(max_length=200, description="`after` of the page before this one.")
]
Id = Annotated[str, Path(description="The id, as it was given.")]
HeadName = Annotated[
    str,
    Path(
        description="The id, or `name` (the newest version), `name:3` or `name:tag`.",
        examples=["flowers:2"],
    ),
]


def check_id(kind: str, given: str) -> str:
    """The id itself; UnknownName for what cannot be one."""
    if not _ID.fullmatch(given):
        raise UnknownName(f"no {kind} {given[:80]!r}")
    return given


def page_of(names: Sequence[str], after: str | None, limit: int) -> tuple[Sequence[str], bool]:
    """`limit` of the sorted `names` from the one after `after`; whether there are more."""
    start = bisect_right(names, after) if after is not None else 0
    return names[start : start + limit], len(names) > start + limit

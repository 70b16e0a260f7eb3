"""Reads the pages of lists."""

from __future__ import annotations

from typing import Any

from offshelf_client._errors import understood


def rows_of(page: Any) -> list[Any]:
    """The rows of a page."""
    with understood("a page of a list"):
        rows = page["items"]
        if not isinstance(rows, list):
            raise TypeError(f"a list was expected, not {type(rows).__name__}")
        return rows


def next_page(page: Any, before: str | None) -> str | None:
    """The cursor of the page after this one; None after the last.

    A cursor that does not move raises UnexpectedAnswer: nobody turns pages for ever.
    """
    with understood("a page of a list"):
        if not page["has_more"]:
            return None
        after = page.get("after")
        if not isinstance(after, str) or after == before:
            raise ValueError(f"there is more, but the cursor is {after!r}")
        return after

"""Walks cursor pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from offshelf_client._paging import next_page, rows_of
from offshelf_client._wire import Call, query

if TYPE_CHECKING:
    from offshelf_client._async._transport import AsyncTransport

PAGE_ROWS: Final = 100


async def rows(
    transport: AsyncTransport, path: str, limit: int | None, **filters: str | None
) -> list[Any]:
    """The first `limit` rows of a list, or all of them; those that the filters let pass."""
    found: list[Any] = []
    after: str | None = None
    while limit is None or len(found) < limit:
        wanted = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(found))
        page = await transport.json(Call("GET", path, query(limit=wanted, after=after, **filters)))
        found += rows_of(page)
        after = next_page(page, after)
        if after is None:
            break
    return found if limit is None else found[:limit]

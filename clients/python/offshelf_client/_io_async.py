"""What the client needs of asyncio; `_io_sync` has the same names for threads."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from offshelf_client._config import Sleep

T = TypeVar("T")
R = TypeVar("R")

_END: Final = object()


async def pause(seconds: float, sleep: Sleep | None) -> None:
    """Wait, by `sleep` where one is given."""
    waiting = (sleep or asyncio.sleep)(seconds)
    if inspect.isawaitable(waiting):
        await waiting


async def blocking(function: Callable[[], R]) -> R:
    """Call what blocks (files, packing) without holding up the event loop."""
    return await asyncio.to_thread(function)


async def gather_in_order(
    function: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    limit: int,
    told: Callable[[R], None],
) -> list[R]:
    """Call `function` on every item, at most `limit` at a time; results in the items' order.

    Items are drawn only when there is room, so that few of them are in memory. `told` gets each
    result in order. The first error ends it: what still runs is cancelled.
    """
    source = iter(items)
    running: deque[asyncio.Task[R]] = deque()
    results: list[R] = []
    try:
        while True:
            while len(running) < limit:
                item = await asyncio.to_thread(next, source, _END)
                if item is _END:
                    break
                running.append(asyncio.ensure_future(function(item)))  # type: ignore[arg-type]  # not _END
            if not running:
                return results
            results.append(await running[0])
            running.popleft()
            told(results[-1])
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

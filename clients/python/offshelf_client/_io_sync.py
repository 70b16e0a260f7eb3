"""What the client needs of threads; `_io_async` has the same names for asyncio."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from offshelf_client._config import Sleep

T = TypeVar("T")
R = TypeVar("R")


def pause(seconds: float, sleep: Sleep | None) -> None:
    """Wait, by `sleep` where one is given."""
    (sleep or time.sleep)(seconds)


def blocking(function: Callable[[], R]) -> R:
    """Call it: here everything blocks."""
    return function()


def gather_in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    limit: int,
    told: Callable[[R], None],
) -> list[R]:
    """Call `function` on every item, at most `limit` at a time; results in the items' order.

    Items are drawn only when there is room, so that few of them are in memory. `told` gets each
    result in order. The first error ends it: what has not begun is dropped, and what still runs
    is waited for (it ends by its own time-outs).
    """
    source = iter(items)
    results: list[R] = []
    with ThreadPoolExecutor(limit, thread_name_prefix="offshelf-client") as pool:
        running: deque[Future[R]] = deque()
        try:
            while True:
                running.extend(
                    pool.submit(function, item) for item in islice(source, limit - len(running))
                )
                if not running:
                    return results
                results.append(running.popleft().result())
                told(results[-1])
        finally:
            for future in running:
                future.cancel()

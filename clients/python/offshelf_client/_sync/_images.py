# Generated from _async by generate_sync.py; edit there.
"""Sends images in several requests at once, in order and with few of them in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from offshelf_client import _io_sync
from offshelf_client._batches import batches, check_limits
from offshelf_client._errors import UnreadableImage
from offshelf_client._images import nothing_in, sources
from offshelf_client._models import Progress
from offshelf_client._progress import showing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offshelf_client._images import Encoded, Images
    from offshelf_client._models import Item
    from offshelf_client._progress import ProgressOption

R = TypeVar("R")


def send_images(
    images: Images,
    ask: Callable[[Sequence[Encoded]], R],
    items_of: Callable[[R], Sequence[Item]],
    *,
    batch_size: int,
    concurrency: int,
    progress: ProgressOption,
) -> list[R]:
    """The answers of `ask` to batch after batch, in order; UnreadableImage where there are none."""
    check_limits(batch_size, concurrency)
    found, total = _io_sync.blocking(lambda: sources(images))
    done = failed = 0
    with showing(progress) as show:

        def told(answer: R) -> None:
            nonlocal done, failed
            items = items_of(answer)
            done += len(items)
            failed += sum(item.status == "error" for item in items)
            show(Progress("images", done, total, failed))

        answers = _io_sync.gather_in_order(ask, batches(found, batch_size), concurrency, told)
    if not answers:
        raise UnreadableImage(nothing_in(images))
    return answers

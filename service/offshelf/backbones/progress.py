"""Shows a download: a bar where somebody watches, lines in the log where nobody does."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

Show: TypeAlias = "Callable[[int, int | None], None]"  # bytes that are here, bytes in all

LINE_EVERY_S: Final = 10.0


@contextmanager
def progress(name: str) -> Iterator[Show]:
    """What to call with the bytes of `name` that are here, as they come."""
    if not sys.stderr.isatty():
        lines = Lines(name)
        yield lines.show
        lines.done()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    rates = (TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, *rates, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)


class Lines:
    """A line in the log when it begins, one every ten seconds, one at the end."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._began_s = self._told_s = clock()
        self._first: int | None = None
        self._here = 0

    def show(self, here: int, total: int | None) -> None:
        """So many bytes are here; the first call is where this run begins."""
        self._here = here
        if self._first is None or here < self._first:  # the second: it began anew
            self._first = here
            log.info("downloading %s (%s)", self._name, _bytes(total) if total else "size unknown")
        elif self._clock() - self._told_s >= LINE_EVERY_S:
            self._told_s = self._clock()
            log.info("%s: %s", self._name, self._line(self._first, total))

    def done(self) -> None:
        """All of it is here."""
        log.info("downloaded %s (%s)", self._name, _bytes(self._here))

    def _line(self, first: int, total: int | None) -> str:
        rate = (self._here - first) / (self._clock() - self._began_s)
        line = f"{_bytes(self._here)}, {_bytes(int(rate))}/s"
        if total is None or rate <= 0:
            return line
        left_s = (total - self._here) / rate
        return f"{line}, {100 * self._here / total:.0f} % of {_bytes(total)}, {left_s:.0f} s left"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"

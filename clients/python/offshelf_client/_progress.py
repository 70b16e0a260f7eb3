"""Shows progress on the terminal: a bar where rich is installed, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, TextIO, TypeAlias

from offshelf_client._models import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import rich.progress

Show: TypeAlias = Callable[[Progress], None]
# A pace that is measured over less says little.
MEASURED_S: Final = 2.0
ProgressOption: TypeAlias = bool | Literal["force"] | Show


@contextmanager
def showing(option: ProgressOption, out: TextIO | None = None) -> Iterator[Show]:
    """What to tell progress to while the block runs.

    False: nobody. A callable: that. True: `out` (standard error) if it is a terminal.
    `"force"`: `out` whatever it is, as plain lines where it is no terminal.
    """
    stream = sys.stderr if out is None else out
    if callable(option):
        yield option
    elif not option or (option is True and not stream.isatty()):
        yield _silent
    elif stream.isatty() and (bar := _rich_bar(stream)):
        with bar:
            yield _on_bar(bar)
    else:
        yield plain_lines(stream)


def plain_lines(out: TextIO) -> Show:
    """Write a line at each new stage and at every further tenth of the total."""
    seen: set[tuple[str, int]] = set()
    pace = Pace()

    def show(progress: Progress) -> None:
        tenth = 10 * progress.done // progress.total if progress.total else 0
        at = pace.told(progress)
        if (progress.stage, tenth) in seen:
            return
        seen.add((progress.stage, tenth))
        print(describe(progress, at), file=out, flush=True)  # asked for by the caller

    return show


def describe(progress: Progress, pace: str = "") -> str:
    """One line: `extract: 64/128 images, 1 failed`, and the pace where it is known."""
    total = "" if progress.total is None else f"/{progress.total}"
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"{progress.stage or 'working'}: {progress.done}{total} {progress.unit}{failed}{pace}"


class Pace:
    """How fast a stage goes, and how long it will take, by what was told of it so far.

    What the service knows itself is taken from it. Else it is counted from the first that is told,
    as a job may have been half done by then. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: str | None = None
        self._from_done, self._from_s = 0, 0.0

    def told(self, progress: Progress) -> str:
        """`, 120 images/s, 0:42 left`; empty while it is not known."""
        now_s = self._clock()
        if progress.stage != self._stage or progress.done < self._from_done:
            self._stage, self._from_done, self._from_s = progress.stage, progress.done, now_s
        done, took_s = progress.done - self._from_done, now_s - self._from_s
        if progress.per_s:
            return _pace(progress.per_s, progress.left_s, progress.unit)
        if took_s < MEASURED_S or not done:
            return ""
        rate = done / took_s
        left_s = None if progress.total is None else (progress.total - progress.done) / rate
        return _pace(rate, left_s, progress.unit)


def _pace(rate: float, left_s: float | None, unit: str) -> str:
    left = "" if left_s is None else f", {_time(left_s)} left"
    return f", {_amount(rate, unit)}/s{left}"


def _amount(rate: float, unit: str) -> str:
    return (
        f"{rate / 1e6:.1f} MB" if unit == "bytes" else f"{rate:.{0 if rate >= 10 else 1}f} {unit}"
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _silent(_: Progress) -> None:
    pass


def _rich_bar(stream: TextIO) -> rich.progress.Progress | None:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Bar(*columns, console=Console(file=stream))


def _on_bar(bar: rich.progress.Progress) -> Show:
    task, pace = bar.add_task("waiting", total=None), Pace()

    def show(progress: Progress) -> None:
        text, known = describe(progress, pace.told(progress)), progress.total or None
        bar.update(task, description=text, total=known, completed=progress.done)

    return show

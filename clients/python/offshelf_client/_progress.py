"""Shows progress on the terminal: a bar where rich is installed, else plain lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from offshelf_client._models import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import rich.progress

Show: TypeAlias = Callable[[Progress], None]
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

    def show(progress: Progress) -> None:
        tenth = 10 * progress.done // progress.total if progress.total else 0
        if (progress.stage, tenth) in seen:
            return
        seen.add((progress.stage, tenth))
        print(describe(progress), file=out, flush=True)  # asked for by the caller

    return show


def describe(progress: Progress) -> str:
    """One line: `extract: 64/128 images, 1 failed`."""
    total = "" if progress.total is None else f"/{progress.total}"
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"{progress.stage or 'working'}: {progress.done}{total} {progress.unit}{failed}"


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
    task = bar.add_task("waiting", total=None)

    def show(progress: Progress) -> None:
        known = progress.total or None
        bar.update(task, description=describe(progress), total=known, completed=progress.done)

    return show

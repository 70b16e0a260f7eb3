"""Where progress is shown, and how."""

from __future__ import annotations

import builtins
import io

import pytest

from offshelf_client._models import JobEvent, JobStatus, Progress
from offshelf_client._progress import Pace, describe, plain_lines, showing
from offshelf_client._waiting import progress_of, status_after

HALF = Progress("extracting", 4, 8, failed=1)


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("option", "out", "shown"),
    [
        (False, Terminal(), False),
        (True, io.StringIO(), False),
        (True, Terminal(), True),
        ("force", io.StringIO(), True),
        ("force", Terminal(), True),
    ],
)
def test_it_is_shown_on_terminals_or_when_forced(option, out, shown: bool) -> None:
    with showing(option, out) as show:
        show(HALF)
    assert ("extracting" in out.getvalue()) is shown


def test_callable_gets_it() -> None:
    told: list[Progress] = []
    with showing(told.append) as show:
        show(HALF)
    assert told == [HALF]


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_rich(name: str, *more, **named):
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    out = Terminal()
    with showing(True, out) as show:
        show(HALF)
    assert out.getvalue() == "extracting: 4/8 images, 1 failed\n"


def test_plain_lines_come_at_every_tenth_and_stage() -> None:
    out = io.StringIO()
    show = plain_lines(out)
    for done in range(1001):
        show(Progress("extracting", done, 1000))
    show(Progress("training", 1000, 1000))
    assert len(out.getvalue().splitlines()) == 12


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress("", 3, None), "working: 3 images"),
        (Progress("upload", 3, 9, unit="bytes"), "upload: 3/9 bytes"),
    ],
)
def test_description(progress: Progress, line: str) -> None:
    assert describe(progress) == line


def test_pace_is_of_the_stage_from_when_it_was_first_told() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert pace.told(Progress("extracting", 500, 1000)) == ""
    now[0] = 101.0
    assert pace.told(Progress("extracting", 520, 1000)) == ""  # too short to say
    now[0] = 110.0
    assert pace.told(Progress("extracting", 700, 1000)) == ", 20 images/s, 0:15 left"
    now[0] = 111.0
    assert pace.told(Progress("fc7.npy", 0, 10**9, unit="bytes")) == ""
    now[0] = 121.0
    slow = pace.told(Progress("fc7.npy", 25_000_000, 10**10, unit="bytes"))
    assert slow == ", 2.5 MB/s, 1:06:30 left"
    now[0] = 131.0
    assert pace.told(Progress("fc7.npy", 50_000_000, None, unit="bytes")) == ", 2.5 MB/s"


def test_the_pace_of_a_job_is_the_one_that_the_service_measured() -> None:
    pace = Pace(lambda: 0.0)
    assert pace.told(Progress("extracting", 4, 8)) == ""
    known = Progress("extracting", 5, 8, per_s=12.4, left_s=65.0)
    assert pace.told(known) == ", 12 images/s, 1:05 left"
    assert pace.told(Progress("succeeded", 8, 8, per_s=12.4)) == ", 12 images/s"


def test_progress_of_a_job_has_the_pace_that_its_events_tell() -> None:
    told = {"state": "running", "stage": "extracting", "total": 8, "done": 4, "failed": 0,
            "reused": 1, "computed": 3, "images_per_s": 2.0, "left_s": 2.0}  # fmt: skip
    status = status_after(JobStatus("j1", "feature_set", "queued"), JobEvent("1-0", told))
    assert (status.reused, status.computed) == (1, 3)
    assert progress_of(status) == Progress("extracting", 4, 8, per_s=2.0, left_s=2.0)

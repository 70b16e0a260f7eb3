"""Downloads that break off and go on, against a local server with faults; with real processes."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from offshelf.backbones import download
from offshelf.backbones.download import Patience, fetch
from offshelf.backbones.progress import Lines
from offshelf.backbones.records import record, record_of
from offshelf.errors import DependencyError
from tests.unit.backbones.test_download import (
    BODY,
    PREFIX,
    QUICK,
    SHA256,
    digest,
    files,
    part_of,
    server,
)

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

OTHER = BODY[::-1]
HALF = len(BODY) // 2


@dataclass
class Published:
    """A file behind a server that keeps to RFC 9110 on ranges, but for its faults.

    `cuts` are, request by request, after how many bytes of an answer the line breaks. `fails` are
    statuses to answer before all that.
    """

    body: bytes = BODY
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    fails: list[int] = field(default_factory=list)
    retry_after: str = ""
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        self.asked.append((wanted, condition))
        if self.fails:
            handler.send_response(self.fails.pop(0))
            if self.retry_after:
                handler.send_header("Retry-After", self.retry_after)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if condition not in (None, self.etag, self.modified):
            start = 0
        if start >= len(self.body):
            handler.send_error(416)
            return
        self.answer(handler, start)

    def answer(self, handler: BaseHTTPRequestHandler, start: int) -> None:
        rest = self.body[start:]
        handler.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            handler.send_header("Content-Range", span)
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.modified:
            handler.send_header("Last-Modified", self.modified)
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "network.pth"


def fetched(published: Published, target: Path, patience: Patience = QUICK) -> list[str | None]:
    """Fetch the file; the ranges that were asked for."""
    with server(published) as url:
        fetch(f"{url}/network.pth", target, "", patience)
    assert digest(target) == hashlib.sha256(published.body).hexdigest()
    assert files(target.parent) == ["network.pth", "network.pth.sha256"]
    return [wanted for wanted, _ in published.asked]


def test_a_line_that_breaks_is_gone_on_with_where_it_broke(target: Path) -> None:
    published = Published(cuts=[1000, 5000, 1])
    ranges = fetched(published, target)
    assert ranges == [None, "bytes=1000-", "bytes=6000-", "bytes=6001-"]
    assert [condition for _, condition in published.asked] == [None, '"one"', '"one"', '"one"']


def test_what_moves_is_given_more_tries_than_what_does_not(target: Path) -> None:
    fetched(Published(cuts=[10] * 20), target, replace(QUICK, pauses=(0,)))
    target.unlink()
    with server(Published(cuts=[10, 0, 0])) as url:
        with pytest.raises(DependencyError):
            fetch(f"{url}/network.pth", target, "", replace(QUICK, pauses=(0,)))
        assert part_of(target).stat().st_size == 10


def test_the_next_run_goes_on_with_the_part_of_the_last(target: Path) -> None:
    published = Published(cuts=[HALF, 0, 0])
    with server(published) as url:
        with pytest.raises(DependencyError):
            fetch(f"{url}/network.pth", target, PREFIX, QUICK)
        published.asked.clear()
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert published.asked == [(f"bytes={HALF}-", '"one"')]
    assert digest(target) == SHA256


def test_a_server_that_ignores_ranges_starts_over(target: Path) -> None:
    assert fetched(Published(cuts=[1000], ranges=False), target) == [None, "bytes=1000-"]


def test_a_server_without_a_validator_is_not_asked_for_the_rest(target: Path) -> None:
    assert fetched(Published(cuts=[1000], etag=""), target) == [None, None]
    target.unlink()
    assert fetched(Published(cuts=[1000], etag='W/"weak"'), target) == [None, None]


def test_the_date_stands_in_for_the_etag(target: Path) -> None:
    published = Published(cuts=[1000], etag="", modified="Wed, 21 Oct 2015 07:28:00 GMT")
    fetched(published, target)
    assert published.asked[1] == ("bytes=1000-", "Wed, 21 Oct 2015 07:28:00 GMT")


def broken_off(published: Published, url: str, target: Path) -> None:
    """Leave the first half of the file as a part."""
    published.cuts = [HALF, 0, 0]
    with pytest.raises(DependencyError):
        fetch(f"{url}/network.pth", target, "", QUICK)
    assert part_of(target).stat().st_size == HALF
    published.asked.clear()


def test_a_file_that_changed_meanwhile_starts_over(target: Path) -> None:
    published = Published()
    with server(published) as url:
        broken_off(published, url, target)
        published.body, published.etag = OTHER, '"two"'
        fetch(f"{url}/network.pth", target, "", QUICK)
    assert digest(target) == hashlib.sha256(OTHER).hexdigest()
    assert published.asked == [(f"bytes={HALF}-", '"one"')]


@pytest.mark.parametrize("fault", ["another file", "other bytes", "no span"])
def test_a_rest_that_is_not_the_rest_is_not_put_to_the_part(target: Path, fault: str) -> None:
    class Wrong(Published):
        def answer(self, handler: BaseHTTPRequestHandler, start: int) -> None:
            if not start or not wrong:
                super().answer(handler, start)
                return
            wrong.clear()
            at = start + 5 if fault == "other bytes" else start
            handler.send_response(206)
            handler.send_header("ETag", '"two"' if fault == "another file" else self.etag)
            if fault != "no span":
                span = f"bytes {at}-{len(BODY) - 1}/{len(BODY)}"
                handler.send_header("Content-Range", span)
            handler.send_header("Content-Length", str(len(BODY) - at))
            handler.end_headers()
            handler.wfile.write(BODY[at:])

    wrong: list[str] = []
    published = Wrong()
    with server(published) as url:
        broken_off(published, url, target)
        wrong.append(fault)
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert digest(target) == SHA256
    assert published.asked[-1] == (None, None)


def test_a_part_that_is_longer_than_the_file_starts_over(target: Path) -> None:
    published = Published()
    with server(published) as url:
        broken_off(published, url, target)
        published.body = BODY[: HALF - 10]
        fetch(f"{url}/network.pth", target, "", QUICK)
    assert digest(target) == hashlib.sha256(published.body).hexdigest()
    assert published.asked == [(f"bytes={HALF}-", '"one"'), (None, None)]


def test_a_part_that_is_whole_needs_no_request(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Published()

    def dies(_: Path) -> str:
        raise KeyboardInterrupt

    with server(published) as url:
        monkeypatch.setattr(download, "sha256_now", dies)
        with pytest.raises(KeyboardInterrupt):
            fetch(f"{url}/network.pth", target, PREFIX, QUICK)
        monkeypatch.undo()
        published.asked.clear()
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert published.asked == []
    assert digest(target) == SHA256


def test_parts_that_do_not_make_the_file_are_fetched_anew_once(
    target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published = Published()
    with server(published) as url:
        broken_off(published, url, target)
        part_of(target).write_bytes(OTHER[:HALF])  # as a disk may do
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert digest(target) == SHA256
    assert published.asked == [(f"bytes={HALF}-", '"one"'), (None, None)]
    assert "fetched anew" in caplog.text


def test_another_file_than_the_one_on_record_is_refused_with_both_hashes(target: Path) -> None:
    target.parent.mkdir()
    record(target, "ab" * 32)
    with server(Published()) as url, pytest.raises(DependencyError) as told:
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    for said in ("ab" * 32, hashlib.sha256(BODY).hexdigest(), str(record_of(target))):
        assert said in str(told.value)
    assert files(target.parent) == ["network.pth.lock", "network.pth.sha256"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_error_that_may_pass_is_waited_out(
    target: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert fetched(Published(fails=[status, status]), target) == [None, None, None]
    assert f"the server answered {status}; trying again" in caplog.text


def test_an_error_that_stays_is_told_at_once(target: Path) -> None:
    published = Published(fails=[404, 404])
    with server(published) as url, pytest.raises(DependencyError, match="answered 404"):
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert len(published.asked) == 1


def test_the_server_says_how_long_to_wait_within_reason(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    fetched(Published(fails=[503], retry_after="7"), target, replace(QUICK, total_s=1000))
    target.unlink()
    fetched(Published(fails=[503], retry_after="86400"), target, replace(QUICK, total_s=1000))
    assert waits == [7.0, download.MAX_RETRY_AFTER_S]


def test_nobody_waits_longer_than_the_whole_may_take(target: Path) -> None:
    published = Published(fails=[503], retry_after="60")
    with server(published) as url, pytest.raises(DependencyError, match="answered 503"):
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)


def test_a_stall_is_ended_and_gone_on_with(target: Path) -> None:
    over = threading.Event()

    class Stalls(Published):
        def answer(self, handler: BaseHTTPRequestHandler, start: int) -> None:
            super().answer(handler, start)
            if not start:
                handler.wfile.flush()
                over.wait(20)

    published = Stalls(cuts=[1000])
    with server(published) as url:
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
        over.set()
    assert published.asked == [(None, None), ("bytes=1000-", '"one"')]


def test_a_redirect_is_followed_with_the_range(target: Path) -> None:
    published = Published(cuts=[1000])

    def moved(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/there":
            published(handler)
            return
        handler.send_response(302)
        handler.send_header("Location", "/there")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with server(moved) as url:
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert published.asked == [(None, None), ("bytes=1000-", '"one"')]


def test_no_secret_of_an_address_is_written_down(target: Path) -> None:
    published = Published(cuts=[HALF, 0, 0])
    with server(published) as url:
        secret = url.replace("http://", "http://me:s3cret@") + "/network.pth?token=s3cret"
        with pytest.raises(DependencyError):
            fetch(secret, target, "", QUICK)
    assert "s3cret" not in target.with_name(target.name + ".part.json").read_text()


def test_who_waits_too_long_for_another_process_is_told(target: Path) -> None:
    target.parent.mkdir()
    with (
        FileLock(f"{target}.lock"),
        pytest.raises(DependencyError, match="another process has been downloading"),
    ):
        fetch("http://127.0.0.1:9/", target, "", replace(QUICK, total_s=0.1))


FETCH = """
import sys, logging
from pathlib import Path
from offshelf.backbones.download import fetch
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
fetch(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
print("done")
"""


def start(url: str, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH, url, str(target), PREFIX]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class Slow(Published):
    """Sends half, then waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.half, self.go_on = threading.Event(), threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler, start: int) -> None:
        self.cuts = [HALF - start]
        super().answer(handler, start)
        handler.wfile.flush()
        self.half.set()
        self.go_on.wait(60)
        handler.wfile.write(self.body[HALF:])


@pytest.mark.processes
def test_a_process_that_is_killed_loses_nothing(target: Path) -> None:
    published = Slow()
    with server(published) as url:
        killed = start(f"{url}/network.pth", target)
        assert published.half.wait(60)
        while not part_of(target).exists() or part_of(target).stat().st_size < HALF // 2:
            assert killed.poll() is None
            threading.Event().wait(0.01)
        killed.kill()
        killed.communicate(timeout=60)
        published.go_on.set()
        size = part_of(target).stat().st_size
        assert HALF // 2 <= size <= HALF
        after = Published()
    with server(after) as url2:
        # The same address as before: a part is a part of what is there.
        about = target.with_name(target.name + ".part.json")
        about.write_text(about.read_text().replace(url, url2))
        fetch(f"{url2}/network.pth", target, PREFIX, QUICK)
    assert after.asked == [(f"bytes={size}-", '"one"')]
    assert digest(target) == SHA256


@pytest.mark.processes
def test_two_processes_share_one_download(target: Path) -> None:
    published = Slow()
    with server(published) as url:
        first = start(f"{url}/network.pth", target)
        assert published.half.wait(60)
        second = start(f"{url}/network.pth", target)
        assert second.stdout is not None
        line = second.stdout.readline()
        assert "another process downloads network.pth" in line
        published.go_on.set()
        for process in (first, second):
            out, _ = process.communicate(timeout=60)
            assert out.endswith("done\n")
            assert process.returncode == 0
    assert len(published.asked) == 1
    assert digest(target) == SHA256
    assert files(target.parent) == ["network.pth", "network.pth.sha256"]


def test_lines_tell_rate_and_remaining_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    lines = Lines("x.pth", clock=lambda: now[0])
    lines.show(20_000_000, 100_000_000)  # the part of an earlier run
    for now[0], here in ((5, 30_000_000), (10, 40_000_000), (12, 44_000_000), (21, 80_000_000)):
        lines.show(here, 100_000_000)
    lines.done()
    assert [record.message for record in caplog.records] == [
        "downloading x.pth (100.0 MB)",
        "x.pth: 40.0 MB, 2.0 MB/s, 40 % of 100.0 MB, 30 s left",
        "x.pth: 80.0 MB, 2.9 MB/s, 80 % of 100.0 MB, 7 s left",
        "downloaded x.pth (80.0 MB)",
    ]

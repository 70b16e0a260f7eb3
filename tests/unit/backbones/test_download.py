from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import torch

from offshelf.backbones.download import Patience, fetch
from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.records import record_of
from offshelf.backbones.weights import load
from offshelf.errors import DependencyError, WeightsMissing
from offshelf.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BODY = bytes(range(256)) * 10_000  # more than one chunk
PREFIX = hashlib.sha256(BODY).hexdigest()[:8]
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(connect_s=2, read_s=0.2, total_s=5, pauses=(0, 0))


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A loopback server that answers every GET so; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def sends(body: bytes, length: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def assert_fails(
    target: Path, url: str, says: str, patience: Patience = QUICK, kept: int = 0
) -> None:
    """The download fails and says so; of it there is no more than a part, to go on with."""
    with pytest.raises(DependencyError, match=says):
        fetch(url, target, PREFIX, patience)
    assert not target.exists()
    assert not record_of(target).exists()
    assert (part_of(target).stat().st_size if part_of(target).exists() else 0) == kept


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def digest(target: Path) -> str:
    return hashlib.sha256(target.read_bytes()).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "network.pth"


def test_a_whole_file_with_the_right_hash_arrives(target: Path) -> None:
    with server(sends(BODY)) as url:
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert digest(target) == SHA256
    assert files(target.parent) == ["network.pth", "network.pth.sha256"]
    assert record_of(target).read_text() == f"{SHA256}  network.pth\n"


def test_a_wrong_hash_leaves_nothing(target: Path) -> None:
    with server(sends(BODY[:-1] + b"x")) as url:
        assert_fails(target, f"{url}/network.pth", f"has sha256 .*, not {PREFIX}")


def test_a_broken_line_leaves_a_part(target: Path) -> None:
    with server(sends(BODY[:1000], length=len(BODY))) as url:
        assert_fails(target, url, "RemoteProtocolError", kept=1000)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_error_status_is_told(target: Path, status: int) -> None:
    with server(lambda handler: handler.send_error(status)) as url:
        assert_fails(target, url, f"the server answered {status}")


def test_no_message_has_what_may_be_a_secret(target: Path) -> None:
    with server(sends(BODY[:-1] + b"x")) as url:
        secret = url.replace("http://", "http://me:s3cret@") + "/network.pth?token=s3cret"
        with pytest.raises(DependencyError, match="has sha256") as caught:
            fetch(secret, target, PREFIX, QUICK)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_falls_silent_times_out(target: Path) -> None:
    over = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        sends(BODY[:1000], length=len(BODY))(handler)
        over.wait(20)

    with server(silent) as url:
        assert_fails(target, url, "did not answer in time", kept=1000)
        over.set()


def test_a_server_that_trickles_times_out(target: Path) -> None:
    over = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        sends(b"", length=len(BODY))(handler)
        for start in range(0, len(BODY), 1000):
            if over.wait(0.01):
                return
            handler.wfile.write(BODY[start : start + 1000])

    with server(trickle) as url:
        with pytest.raises(DependencyError, match="not finished after 0 s"):
            fetch(url, target, PREFIX, replace(QUICK, total_s=0.1))
        over.set()
    assert not target.exists()


def test_nobody_there_is_told(target: Path) -> None:
    assert_fails(target, "http://127.0.0.1:9/network.pth", "ConnectError")


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "http://[bad/x"])
def test_what_is_no_url_is_told(target: Path, url: str) -> None:
    assert_fails(target, url, r".+")


def test_redirects_are_followed(target: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/moved":
            sends(BODY)(handler)
            return
        handler.send_response(302)
        handler.send_header("Location", "/moved")
        handler.end_headers()

    with server(answer) as url:
        fetch(f"{url}/network.pth", target, PREFIX, QUICK)
    assert digest(target) == SHA256


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with server(sends(BODY)) as url, pytest.raises(DependencyError, match="cannot write"):
        fetch(url, tmp_path / "file" / "network.pth", PREFIX, QUICK)


def test_a_bar_is_shown_where_somebody_watches(
    target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(sends(BODY)) as url:
        fetch(url, target, PREFIX, QUICK)
        assert capsys.readouterr().err == ""
        target.unlink()
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        fetch(url, target, PREFIX, QUICK)
    assert "network.pth" in capsys.readouterr().err


def test_missing_weights_come_from_the_mirror_into_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    card = BACKBONES.get("squeezenet1_0")
    made = tmp_path / "made.pth"
    torch.save(card.build().state_dict(), made)
    body = made.read_bytes()
    prefix = hashlib.sha256(body).hexdigest()[:8]
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        sends(body)(handler)

    with server(answer) as url:
        settings = Settings(weights_mirror=f"{url}/mirror/")
        with pytest.raises(WeightsMissing, match="has sha256"):
            load(card, None, settings)
        assert not (settings.hub_cache / card.weights.filename).exists()
        fitting = replace(card, weights=replace(card.weights, sha256_prefix=prefix))
        first = load(fitting, None, settings)
        second = load(fitting, None, settings)
    assert asked == ["/mirror/squeezenet1_0-b66bff10.pth"] * 2
    assert (first.source, second.source) == ("download", "hub-cache")
    assert first.label == second.label == "IMAGENET1K_V1"
    assert first.digest == second.digest

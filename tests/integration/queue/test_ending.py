"""How processes end, seen from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from offshelf import bootstrap
from offshelf.errors import DependencyError
from offshelf.settings import Settings
from offshelf.worker.process import CLOSE_S

if TYPE_CHECKING:
    from pathlib import Path

HANGS = """
import sys, threading
from offshelf.bootstrap import end_for_certain
threading.Thread(target=threading.Event().wait).start()
end_for_certain(3, 0.2)
sys.exit(3)
"""


def test_a_process_ends_though_one_of_its_threads_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], timeout=30, check=False)
    assert ended.returncode == 3


def test_the_grace_of_a_worker_covers_what_its_end_may_take() -> None:
    assert bootstrap.WORKER_GRACE_S > 2 * CLOSE_S


def test_a_server_that_was_started_is_stopped_whatever_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class Embedded:
        def start(self) -> str:
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            calls.append("start")
            raise DependencyError("half started")

        def stop(self) -> None:
            calls.append("stop")

    monkeypatch.setattr(bootstrap, "_embedded", lambda _settings: Embedded())
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(DependencyError, match="half started"):
            bootstrap.serve(Settings(data_dir=tmp_path, port=0))
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert calls == ["start", "stop"]

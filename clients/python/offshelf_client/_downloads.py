"""Gives a downloaded file its name, once it is known to be whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from offshelf_client._errors import UnexpectedAnswer

if TYPE_CHECKING:
    from pathlib import Path


def checked(came: Path, etag: str, path: Path) -> Path:
    """Rename `came` to `path`, which is whole or as it was before.

    Raises UnexpectedAnswer where its sha256 is not what its ETag says; the file is removed.
    """
    with came.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if etag.strip('"') != digest:
        came.unlink()
        raise UnexpectedAnswer(
            f"the file for {path} arrived damaged: its sha256 is {digest}, and the service says "
            f"{etag or 'none'}"
        )
    return came.replace(path)

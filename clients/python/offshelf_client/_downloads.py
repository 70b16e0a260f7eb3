"""Writes what was downloaded to a file, once it is known to be whole."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from offshelf_client._errors import UnexpectedAnswer

if TYPE_CHECKING:
    from pathlib import Path

    import httpx


def save(response: httpx.Response, path: Path) -> Path:
    """Write the body of an answer to `path`, which is whole or as it was before.

    Raises UnexpectedAnswer where the body is not what its Repr-Digest (RFC 9530) says.
    """
    digest = base64.b64encode(hashlib.sha256(response.content).digest()).decode()
    told = response.headers.get("Repr-Digest", "")
    if told != f"sha-256=:{digest}:":
        raise UnexpectedAnswer(
            f"the file for {path} arrived damaged: its sha256 is {digest} in base64, and the "
            f"service says {told or 'none'}"
        )
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(response.content)
    return partial.replace(path)

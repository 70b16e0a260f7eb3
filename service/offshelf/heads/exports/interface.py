"""What an export format is: a name, and how a head becomes one file of it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from offshelf.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.heads.model import LinearHead
    from offshelf.schemas.heads import Head

Write: TypeAlias = "Callable[[LinearHead], bytes]"


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. `write` makes it at once; None: it needs torch, and a worker makes it.

    The same head gives the same bytes. `write` raises NotAcceptable where the service lacks what
    it needs, and `check` RequestError for a head that has no such form.
    """

    name: str
    suffix: str
    media_type: str
    write: Write | None
    check: Callable[[Head], None] | None = None

    def filename(self, card: Head) -> str:
        """What to call the file: the head's name and version where it has them."""
        return (f"{card.name}-{card.version}" if card.version else card.id) + self.suffix


@dataclass(frozen=True, slots=True)
class File:
    """A file that was made, and the sha256 of its bytes in hex."""

    content: bytes
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> File:
        """With its digest."""
        return cls(content, hashlib.sha256(content).hexdigest())


def repr_digest(sha256: str) -> str:
    """The value of a Repr-Digest header (RFC 9530) for a digest in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


FORMATS: Registry[Format] = Registry("export format", "offshelf.heads.exports")
EXPORT: Final = "export"

"""Small copies of data sets in their official layouts, written by the tests themselves."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from offshelf.datasets.protocols.interface import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from offshelf.datasets.protocols.interface import Description, Protocol, Split


def jpeg(mode: str = "RGB") -> bytes:
    """A tiny picture."""
    out = io.BytesIO()
    Image.new(mode, (8, 6), 90 if mode == "L" else (90, 60, 30)).save(out, "JPEG")
    return out.getvalue()


PICTURE = jpeg()


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a folder and give the folder."""
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            file.write_bytes(content.encode())
        else:
            file.write_bytes(content)
    return root


def pictures(root: Path, paths: Iterable[str]) -> Path:
    """Write the same picture to each path."""
    return write(root, dict.fromkeys(paths, PICTURE))


def protocol(name: str, **counts: int) -> Protocol:
    """A protocol of the registry, with the official counts of a small copy."""
    found = PROTOCOLS.get(name)
    if not counts:
        return found
    named = {what.replace("_", " "): count for what, count in counts.items()}
    return replace(found, card=found.card.model_copy(update={"counts": named}))


def keys(description: Description, numbers: Iterable[int]) -> list[str]:
    """The keys of items."""
    return [description.items[number].key for number in numbers]


def sides(description: Description, split: Split) -> tuple[list[str], list[str], list[str]]:
    """The keys of a split's items: train, val, test."""
    return (
        keys(description, split.train),
        keys(description, split.val),
        keys(description, split.test),
    )
